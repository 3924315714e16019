//! A throwaway PostgreSQL with the learning platform's data, aged.
