//! A card with a file system and a configuration.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(card_reading);
