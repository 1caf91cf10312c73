//! Configuration text.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(config_text);
