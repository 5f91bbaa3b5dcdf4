//! Wire protocol `rookery.v1`.
