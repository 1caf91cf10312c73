//! Fragments in any order, and what only looks like some.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(reassembly);
