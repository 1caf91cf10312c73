//! HTTP request heads.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(http_request);
