//! Progress and ends that copytools report.
