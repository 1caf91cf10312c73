//! Traffic selectors: wire form, intersection, narrowing.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(traffic_selectors);
