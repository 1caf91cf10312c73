//! IANA numbers of IKEv2 as newtypes that keep values we do not know.

use core::fmt;

macro_rules! registry {
    ($(#[$doc:meta])* $name:ident($int:ty), $what:literal { $($konst:ident = $value:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub struct $name(pub $int);

        impl $name {
            $(
                #[doc = concat!("`", $word, "` (", stringify!($value), ").")]
                pub const $konst: Self = Self($value);
            )*

            /// The registry's word for the value; `None` when it is not listed here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($word),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, concat!($what, " {}"), self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

registry! {
    /// Payload types (RFC 7296 §3.2). 1–32 belong to IKEv1 and are unknown here.
    PayloadType(u8), "payload type" {
        NONE = 0 "none",
        SA = 33 "SA",
        KE = 34 "KE",
        ID_I = 35 "IDi",
        ID_R = 36 "IDr",
        CERT = 37 "CERT",
        CERTREQ = 38 "CERTREQ",
        AUTH = 39 "AUTH",
        NONCE = 40 "NONCE",
        NOTIFY = 41 "N",
        DELETE = 42 "D",
        VENDOR = 43 "V",
        TS_I = 44 "TSi",
        TS_R = 45 "TSr",
        SK = 46 "SK",
        CP = 47 "CP",
        EAP = 48 "EAP",
        SKF = 53 "SKF",
        PUZZLE = 54 "PS",
    }
}

impl PayloadType {
    /// Whether RFC 7296 defines it. IKEv1's (1–13) and those of extensions we do not have are unknown.
    pub(crate) fn is_known(self) -> bool {
        (Self::SA..=Self::EAP).contains(&self)
    }
}

registry! {
    /// Exchange types (RFC 7296 §3.1).
    ExchangeType(u8), "exchange type" {
        IKE_SA_INIT = 34 "IKE_SA_INIT",
        IKE_AUTH = 35 "IKE_AUTH",
        CREATE_CHILD_SA = 36 "CREATE_CHILD_SA",
        INFORMATIONAL = 37 "INFORMATIONAL",
        IKE_SESSION_RESUME = 38 "IKE_SESSION_RESUME",
        IKE_INTERMEDIATE = 43 "IKE_INTERMEDIATE",
        IKE_FOLLOWUP_KE = 44 "IKE_FOLLOWUP_KE",
    }
}

registry! {
    /// Notify message types (RFC 7296 §3.10.1 and the extensions since).
    NotifyKind(u16), "notify" {
        UNSUPPORTED_CRITICAL_PAYLOAD = 1 "UNSUPPORTED_CRITICAL_PAYLOAD",
        INVALID_IKE_SPI = 4 "INVALID_IKE_SPI",
        INVALID_MAJOR_VERSION = 5 "INVALID_MAJOR_VERSION",
        INVALID_SYNTAX = 7 "INVALID_SYNTAX",
        INVALID_MESSAGE_ID = 9 "INVALID_MESSAGE_ID",
        INVALID_SPI = 11 "INVALID_SPI",
        NO_PROPOSAL_CHOSEN = 14 "NO_PROPOSAL_CHOSEN",
        INVALID_KE_PAYLOAD = 17 "INVALID_KE_PAYLOAD",
        AUTHENTICATION_FAILED = 24 "AUTHENTICATION_FAILED",
        SINGLE_PAIR_REQUIRED = 34 "SINGLE_PAIR_REQUIRED",
        NO_ADDITIONAL_SAS = 35 "NO_ADDITIONAL_SAS",
        INTERNAL_ADDRESS_FAILURE = 36 "INTERNAL_ADDRESS_FAILURE",
        FAILED_CP_REQUIRED = 37 "FAILED_CP_REQUIRED",
        TS_UNACCEPTABLE = 38 "TS_UNACCEPTABLE",
        INVALID_SELECTORS = 39 "INVALID_SELECTORS",
        UNACCEPTABLE_ADDRESSES = 40 "UNACCEPTABLE_ADDRESSES",
        UNEXPECTED_NAT_DETECTED = 41 "UNEXPECTED_NAT_DETECTED",
        USE_ASSIGNED_HOA = 42 "USE_ASSIGNED_HoA",
        TEMPORARY_FAILURE = 43 "TEMPORARY_FAILURE",
        CHILD_SA_NOT_FOUND = 44 "CHILD_SA_NOT_FOUND",
        INVALID_GROUP_ID = 45 "INVALID_GROUP_ID",
        AUTHORIZATION_FAILED = 46 "AUTHORIZATION_FAILED",
        STATE_NOT_FOUND = 47 "STATE_NOT_FOUND",
        TS_MAX_QUEUE = 48 "TS_MAX_QUEUE",
        INITIAL_CONTACT = 16384 "INITIAL_CONTACT",
        SET_WINDOW_SIZE = 16385 "SET_WINDOW_SIZE",
        ADDITIONAL_TS_POSSIBLE = 16386 "ADDITIONAL_TS_POSSIBLE",
        IPCOMP_SUPPORTED = 16387 "IPCOMP_SUPPORTED",
        NAT_DETECTION_SOURCE_IP = 16388 "NAT_DETECTION_SOURCE_IP",
        NAT_DETECTION_DESTINATION_IP = 16389 "NAT_DETECTION_DESTINATION_IP",
        COOKIE = 16390 "COOKIE",
        USE_TRANSPORT_MODE = 16391 "USE_TRANSPORT_MODE",
        HTTP_CERT_LOOKUP_SUPPORTED = 16392 "HTTP_CERT_LOOKUP_SUPPORTED",
        REKEY_SA = 16393 "REKEY_SA",
        ESP_TFC_PADDING_NOT_SUPPORTED = 16394 "ESP_TFC_PADDING_NOT_SUPPORTED",
        NON_FIRST_FRAGMENTS_ALSO = 16395 "NON_FIRST_FRAGMENTS_ALSO",
        MOBIKE_SUPPORTED = 16396 "MOBIKE_SUPPORTED",
        ADDITIONAL_IP4_ADDRESS = 16397 "ADDITIONAL_IP4_ADDRESS",
        ADDITIONAL_IP6_ADDRESS = 16398 "ADDITIONAL_IP6_ADDRESS",
        NO_ADDITIONAL_ADDRESSES = 16399 "NO_ADDITIONAL_ADDRESSES",
        UPDATE_SA_ADDRESSES = 16400 "UPDATE_SA_ADDRESSES",
        COOKIE2 = 16401 "COOKIE2",
        NO_NATS_ALLOWED = 16402 "NO_NATS_ALLOWED",
        AUTH_LIFETIME = 16403 "AUTH_LIFETIME",
        MULTIPLE_AUTH_SUPPORTED = 16404 "MULTIPLE_AUTH_SUPPORTED",
        ANOTHER_AUTH_FOLLOWS = 16405 "ANOTHER_AUTH_FOLLOWS",
        REDIRECT_SUPPORTED = 16406 "REDIRECT_SUPPORTED",
        REDIRECT = 16407 "REDIRECT",
        REDIRECTED_FROM = 16408 "REDIRECTED_FROM",
        TICKET_LT_OPAQUE = 16409 "TICKET_LT_OPAQUE",
        TICKET_REQUEST = 16410 "TICKET_REQUEST",
        TICKET_ACK = 16411 "TICKET_ACK",
        TICKET_NACK = 16412 "TICKET_NACK",
        TICKET_OPAQUE = 16413 "TICKET_OPAQUE",
        LINK_ID = 16414 "LINK_ID",
        USE_WESP_MODE = 16415 "USE_WESP_MODE",
        ROHC_SUPPORTED = 16416 "ROHC_SUPPORTED",
        EAP_ONLY_AUTHENTICATION = 16417 "EAP_ONLY_AUTHENTICATION",
        CHILDLESS_IKEV2_SUPPORTED = 16418 "CHILDLESS_IKEV2_SUPPORTED",
        QUICK_CRASH_DETECTION = 16419 "QUICK_CRASH_DETECTION",
        IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420 "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
        IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED = 16421 "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED",
        IKEV2_MESSAGE_ID_SYNC = 16422 "IKEV2_MESSAGE_ID_SYNC",
        IPSEC_REPLAY_COUNTER_SYNC = 16423 "IPSEC_REPLAY_COUNTER_SYNC",
        SECURE_PASSWORD_METHODS = 16424 "SECURE_PASSWORD_METHODS",
        PSK_PERSIST = 16425 "PSK_PERSIST",
        PSK_CONFIRM = 16426 "PSK_CONFIRM",
        ERX_SUPPORTED = 16427 "ERX_SUPPORTED",
        IFOM_CAPABILITY = 16428 "IFOM_CAPABILITY",
        GROUP_SENDER = 16429 "GROUP_SENDER",
        IKEV2_FRAGMENTATION_SUPPORTED = 16430 "IKEV2_FRAGMENTATION_SUPPORTED",
        SIGNATURE_HASH_ALGORITHMS = 16431 "SIGNATURE_HASH_ALGORITHMS",
        CLONE_IKE_SA_SUPPORTED = 16432 "CLONE_IKE_SA_SUPPORTED",
        CLONE_IKE_SA = 16433 "CLONE_IKE_SA",
        PUZZLE = 16434 "PUZZLE",
        USE_PPK = 16435 "USE_PPK",
        PPK_IDENTITY = 16436 "PPK_IDENTITY",
        NO_PPK_AUTH = 16437 "NO_PPK_AUTH",
        INTERMEDIATE_EXCHANGE_SUPPORTED = 16438 "INTERMEDIATE_EXCHANGE_SUPPORTED",
        IP4_ALLOWED = 16439 "IP4_ALLOWED",
        IP6_ALLOWED = 16440 "IP6_ALLOWED",
        ADDITIONAL_KEY_EXCHANGE = 16441 "ADDITIONAL_KEY_EXCHANGE",
        USE_AGGFRAG = 16442 "USE_AGGFRAG",
        SUPPORTED_AUTH_METHODS = 16443 "SUPPORTED_AUTH_METHODS",
        SA_RESOURCE_INFO = 16444 "SA_RESOURCE_INFO",
        USE_PPK_INT = 16445 "USE_PPK_INT",
        PPK_IDENTITY_KEY = 16446 "PPK_IDENTITY_KEY",
        IKE_SA_INIT_FULL_TRANSCRIPT_AUTH = 16447 "IKE_SA_INIT_FULL_TRANSCRIPT_AUTH",
    }
}

impl NotifyKind {
    /// Whether the type reports a failure (below 16384, RFC 7296 §3.10.1), known or not.
    pub const fn is_error(self) -> bool {
        self.0 < 16384
    }
}

registry! {
    /// Security protocol identifiers (RFC 7296 §3.3.1).
    ProtocolId(u8), "protocol" {
        NONE = 0 "none",
        IKE = 1 "IKE",
        AH = 2 "AH",
        ESP = 3 "ESP",
    }
}

registry! {
    /// Transform types (RFC 7296 §3.3.2, RFC 9370 §2.2.1).
    TransformType(u8), "transform type" {
        ENCR = 1 "ENCR",
        PRF = 2 "PRF",
        INTEG = 3 "INTEG",
        KE = 4 "KE",
        ESN = 5 "ESN",
        ADDKE1 = 6 "ADDKE1",
        ADDKE2 = 7 "ADDKE2",
        ADDKE3 = 8 "ADDKE3",
        ADDKE4 = 9 "ADDKE4",
        ADDKE5 = 10 "ADDKE5",
        ADDKE6 = 11 "ADDKE6",
        ADDKE7 = 12 "ADDKE7",
    }
}

registry! {
    /// Encryption algorithms, transform type 1.
    EncrId(u16), "ENCR" {
        DES_IV64 = 1 "ENCR_DES_IV64",
        DES = 2 "ENCR_DES",
        TRIPLE_DES = 3 "ENCR_3DES",
        RC5 = 4 "ENCR_RC5",
        IDEA = 5 "ENCR_IDEA",
        CAST = 6 "ENCR_CAST",
        BLOWFISH = 7 "ENCR_BLOWFISH",
        NULL = 11 "ENCR_NULL",
        AES_CBC = 12 "ENCR_AES_CBC",
        AES_CTR = 13 "ENCR_AES_CTR",
        AES_CCM_8 = 14 "ENCR_AES_CCM_8",
        AES_CCM_12 = 15 "ENCR_AES_CCM_12",
        AES_CCM_16 = 16 "ENCR_AES_CCM_16",
        AES_GCM_8 = 18 "ENCR_AES_GCM_8",
        AES_GCM_12 = 19 "ENCR_AES_GCM_12",
        AES_GCM_16 = 20 "ENCR_AES_GCM_16",
        NULL_AUTH_AES_GMAC = 21 "ENCR_NULL_AUTH_AES_GMAC",
        CAMELLIA_CBC = 23 "ENCR_CAMELLIA_CBC",
        CAMELLIA_CTR = 24 "ENCR_CAMELLIA_CTR",
        CHACHA20_POLY1305 = 28 "ENCR_CHACHA20_POLY1305",
        AES_CCM_8_IIV = 29 "ENCR_AES_CCM_8_IIV",
        AES_GCM_16_IIV = 30 "ENCR_AES_GCM_16_IIV",
        CHACHA20_POLY1305_IIV = 31 "ENCR_CHACHA20_POLY1305_IIV",
    }
}

registry! {
    /// Pseudorandom functions, transform type 2.
    PrfId(u16), "PRF" {
        HMAC_MD5 = 1 "PRF_HMAC_MD5",
        HMAC_SHA1 = 2 "PRF_HMAC_SHA1",
        HMAC_TIGER = 3 "PRF_HMAC_TIGER",
        AES128_XCBC = 4 "PRF_AES128_XCBC",
        HMAC_SHA2_256 = 5 "PRF_HMAC_SHA2_256",
        HMAC_SHA2_384 = 6 "PRF_HMAC_SHA2_384",
        HMAC_SHA2_512 = 7 "PRF_HMAC_SHA2_512",
        AES128_CMAC = 8 "PRF_AES128_CMAC",
    }
}

registry! {
    /// Integrity algorithms, transform type 3.
    IntegId(u16), "AUTH" {
        NONE = 0 "NONE",
        HMAC_MD5_96 = 1 "AUTH_HMAC_MD5_96",
        HMAC_SHA1_96 = 2 "AUTH_HMAC_SHA1_96",
        DES_MAC = 3 "AUTH_DES_MAC",
        KPDK_MD5 = 4 "AUTH_KPDK_MD5",
        AES_XCBC_96 = 5 "AUTH_AES_XCBC_96",
        HMAC_MD5_128 = 6 "AUTH_HMAC_MD5_128",
        HMAC_SHA1_160 = 7 "AUTH_HMAC_SHA1_160",
        AES_CMAC_96 = 8 "AUTH_AES_CMAC_96",
        AES_128_GMAC = 9 "AUTH_AES_128_GMAC",
        AES_192_GMAC = 10 "AUTH_AES_192_GMAC",
        AES_256_GMAC = 11 "AUTH_AES_256_GMAC",
        HMAC_SHA2_256_128 = 12 "AUTH_HMAC_SHA2_256_128",
        HMAC_SHA2_384_192 = 13 "AUTH_HMAC_SHA2_384_192",
        HMAC_SHA2_512_256 = 14 "AUTH_HMAC_SHA2_512_256",
    }
}

registry! {
    /// Key exchange methods, transform type 4 (and 6–12).
    GroupId(u16), "KE method" {
        NONE = 0 "NONE",
        MODP_768 = 1 "MODP_768",
        MODP_1024 = 2 "MODP_1024",
        MODP_1536 = 5 "MODP_1536",
        MODP_2048 = 14 "MODP_2048",
        MODP_3072 = 15 "MODP_3072",
        MODP_4096 = 16 "MODP_4096",
        MODP_6144 = 17 "MODP_6144",
        MODP_8192 = 18 "MODP_8192",
        ECP_256 = 19 "ECP_256",
        ECP_384 = 20 "ECP_384",
        ECP_521 = 21 "ECP_521",
        MODP_1024_160 = 22 "MODP_1024_160",
        MODP_2048_224 = 23 "MODP_2048_224",
        MODP_2048_256 = 24 "MODP_2048_256",
        ECP_192 = 25 "ECP_192",
        ECP_224 = 26 "ECP_224",
        BRAINPOOL_224 = 27 "BRAINPOOL_P224R1",
        BRAINPOOL_256 = 28 "BRAINPOOL_P256R1",
        BRAINPOOL_384 = 29 "BRAINPOOL_P384R1",
        BRAINPOOL_512 = 30 "BRAINPOOL_P512R1",
        CURVE25519 = 31 "CURVE25519",
        CURVE448 = 32 "CURVE448",
        ML_KEM_512 = 35 "ML_KEM_512",
        ML_KEM_768 = 36 "ML_KEM_768",
        ML_KEM_1024 = 37 "ML_KEM_1024",
    }
}

registry! {
    /// Extended sequence numbers, transform type 5 (names of RFC 9827 in parentheses there).
    EsnId(u16), "ESN" {
        NO_ESN = 0 "NO_ESN",
        ESN = 1 "ESN",
    }
}

registry! {
    /// Authentication methods (RFC 7296 §3.8).
    AuthMethod(u8), "auth method" {
        RSA = 1 "RSA_SIGNATURE",
        SHARED_KEY = 2 "SHARED_KEY_MIC",
        DSS = 3 "DSS_SIGNATURE",
        ECDSA_256 = 9 "ECDSA_SHA256_P256",
        ECDSA_384 = 10 "ECDSA_SHA384_P384",
        ECDSA_521 = 11 "ECDSA_SHA512_P521",
        SECURE_PASSWORD = 12 "SECURE_PASSWORD",
        NULL = 13 "NULL",
        SIGNATURE = 14 "DIGITAL_SIGNATURE",
    }
}

registry! {
    /// Identification types (RFC 7296 §3.5).
    IdKind(u8), "ID type" {
        IPV4_ADDR = 1 "ID_IPV4_ADDR",
        FQDN = 2 "ID_FQDN",
        RFC822_ADDR = 3 "ID_RFC822_ADDR",
        IPV6_ADDR = 5 "ID_IPV6_ADDR",
        DER_ASN1_DN = 9 "ID_DER_ASN1_DN",
        DER_ASN1_GN = 10 "ID_DER_ASN1_GN",
        KEY_ID = 11 "ID_KEY_ID",
        FC_NAME = 12 "ID_FC_NAME",
        NULL = 13 "ID_NULL",
    }
}

registry! {
    /// Certificate encodings (RFC 7296 §3.6).
    CertEncoding(u8), "certificate encoding" {
        PKCS7 = 1 "PKCS7",
        PGP = 2 "PGP",
        DNS_SIGNED_KEY = 3 "DNS_SIGNED_KEY",
        X509_SIGNATURE = 4 "X509_SIGNATURE",
        KERBEROS = 6 "KERBEROS",
        CRL = 7 "CRL",
        ARL = 8 "ARL",
        SPKI = 9 "SPKI",
        X509_ATTRIBUTE = 10 "X509_ATTRIBUTE",
        HASH_URL_CERT = 12 "HASH_URL_CERT",
        HASH_URL_BUNDLE = 13 "HASH_URL_BUNDLE",
        OCSP = 14 "OCSP",
        RAW_PUBLIC_KEY = 15 "RAW_PUBLIC_KEY",
    }
}

registry! {
    /// Configuration payload types (RFC 7296 §3.15).
    CpKind(u8), "CFG type" {
        REQUEST = 1 "CFG_REQUEST",
        REPLY = 2 "CFG_REPLY",
        SET = 3 "CFG_SET",
        ACK = 4 "CFG_ACK",
    }
}

registry! {
    /// Configuration attribute types (RFC 7296 §3.15.1 and the extensions since).
    CpAttributeKind(u16), "CFG attribute" {
        INTERNAL_IP4_ADDRESS = 1 "INTERNAL_IP4_ADDRESS",
        INTERNAL_IP4_NETMASK = 2 "INTERNAL_IP4_NETMASK",
        INTERNAL_IP4_DNS = 3 "INTERNAL_IP4_DNS",
        INTERNAL_IP4_NBNS = 4 "INTERNAL_IP4_NBNS",
        INTERNAL_IP4_DHCP = 6 "INTERNAL_IP4_DHCP",
        APPLICATION_VERSION = 7 "APPLICATION_VERSION",
        INTERNAL_IP6_ADDRESS = 8 "INTERNAL_IP6_ADDRESS",
        INTERNAL_IP6_DNS = 10 "INTERNAL_IP6_DNS",
        INTERNAL_IP6_DHCP = 12 "INTERNAL_IP6_DHCP",
        INTERNAL_IP4_SUBNET = 13 "INTERNAL_IP4_SUBNET",
        SUPPORTED_ATTRIBUTES = 14 "SUPPORTED_ATTRIBUTES",
        INTERNAL_IP6_SUBNET = 15 "INTERNAL_IP6_SUBNET",
        INTERNAL_DNS_DOMAIN = 25 "INTERNAL_DNS_DOMAIN",
        INTERNAL_DNSSEC_TA = 26 "INTERNAL_DNSSEC_TA",
        ENCDNS_IP4 = 27 "ENCDNS_IP4",
        ENCDNS_IP6 = 28 "ENCDNS_IP6",
        ENCDNS_DIGEST_INFO = 29 "ENCDNS_DIGEST_INFO",
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::format;

    use super::*;

    #[test]
    fn known_values_print_their_word_and_unknown_ones_their_number() {
        assert_eq!(format!("{} {:?}", NotifyKind::COOKIE, NotifyKind::COOKIE), "COOKIE COOKIE");
        assert_eq!(format!("{} {:?}", NotifyKind(12345), PayloadType(7)), "notify 12345 payload type 7");
        assert_eq!((NotifyKind(14).name(), NotifyKind(15).name()), (Some("NO_PROPOSAL_CHOSEN"), None));
        for value in 0..=u16::MAX {
            assert!(!format!("{}{}", NotifyKind(value), GroupId(value)).is_empty());
        }
    }

    #[test]
    fn notifies_below_16384_are_errors_known_or_not() {
        for (value, error) in [(0, true), (14, true), (8191, true), (16383, true), (16384, false), (40960, false)] {
            assert_eq!(NotifyKind(value).is_error(), error, "{value}");
        }
    }

    #[test]
    fn atk_21_payload_types_of_ikev1_have_no_name() {
        assert!((1..=32).all(|value| PayloadType(value).name().is_none()));
        assert!((33..=48).all(|value| PayloadType(value).name().is_some()));
    }
}
