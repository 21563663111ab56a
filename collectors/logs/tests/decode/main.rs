//! The decoder from outside: tables, samples, a model, and fuzzing.

mod drive;
mod fuzz;
mod model;
mod reference;
mod tables;
