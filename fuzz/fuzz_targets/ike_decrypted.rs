//! Two endpoints in dialogue, their messages changed behind the tag.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(ike_decrypted);
