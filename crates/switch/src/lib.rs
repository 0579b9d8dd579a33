//! The switch agent: observe, plan, apply, report.
