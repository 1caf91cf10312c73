//! ICMP errors, read and written.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(icmp_errors);
