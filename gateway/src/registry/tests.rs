//! registry tests
