//! Policy over any IP packet, against a naive model.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(ip_classify);
