//! The MongoDB part of the learning platform, on a throwaway server.

mod data;
mod server;

pub use data::{Counted, count, load};
pub use server::{Found, Mongod, Throwaway};
