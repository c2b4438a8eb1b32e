//! Users' requests.
