//! ESP packets, behind a tag that passes.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(esp_open);
