//! USB descriptors.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(usb_descriptors);
