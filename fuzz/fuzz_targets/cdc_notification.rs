//! Notifications of a CDC Ethernet adapter.
#![cfg_attr(fuzzing, no_main)]

portcullis_fuzz::target!(cdc_notification);
