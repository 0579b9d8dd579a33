//! What every process shares: telemetry, shutdown, the reconcile loop.
