//! ESP of every suite in every mode: nothing opens but what was sealed.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(esp_suites);
