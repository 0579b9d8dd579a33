//! The command line of users and operators.
