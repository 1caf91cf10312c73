//! Writing again what was read.

use ike_core::registry::PayloadType;
use ike_core::registry::ProtocolId;
use ike_core::wire::auth::Auth;
use ike_core::wire::chain::Chain;
use ike_core::wire::delete::Delete;
use ike_core::wire::header::Header;
use ike_core::wire::id::Id;
use ike_core::wire::ke::Ke;
use ike_core::wire::nonce::Nonce;
use ike_core::wire::notify::Notify;
use ike_core::wire::sa::{Sa, TransformSpec};
use ike_core::wire::ts::Ts;
use ike_core::wire::writer::MessageWriter;

/// A message in clear with `header` and the payloads of the chain, each read into its view and written from it. `None` when
/// there is one that we only read.
pub(crate) fn reencode(header: &Header, first: PayloadType, body: &[u8]) -> Option<Vec<u8>> {
    let mut buf = vec![0xff; body.len() + Header::LEN];
    let mut out = MessageWriter::new(&mut buf, header).unwrap();
    for payload in Chain::new(first, body) {
        let payload = payload.unwrap();
        let kind = payload.kind;
        match kind {
            PayloadType::SA => {
                let sa = Sa::parse(payload.body).unwrap();
                let all: Vec<_> = sa.proposals().collect();
                assert!(all.iter().all(|proposal| proposal.spi == all[0].spi));
                let proposals = all.iter().map(|proposal| {
                    let specs: Vec<_> =
                        proposal.transforms().map(|transform| TransformSpec::from(&transform)).collect();
                    (proposal.number, specs)
                });
                out.sa(all[0].protocol, all[0].spi, proposals)
            }
            PayloadType::KE => {
                let ke = Ke::parse(payload.body).unwrap();
                out.ke(ke.group, ke.public)
            }
            PayloadType::NONCE => out.nonce(Nonce::parse(payload.body).unwrap().as_slice()),
            PayloadType::ID_I | PayloadType::ID_R => out.id(kind, &Id::parse(payload.body).unwrap()),
            PayloadType::AUTH => {
                let auth = Auth::parse(payload.body).unwrap();
                out.auth(auth.method, auth.data)
            }
            PayloadType::NOTIFY => {
                let notify = Notify::parse(payload.body).unwrap();
                out.notify(notify.protocol, notify.spi, notify.kind, notify.data)
            }
            PayloadType::DELETE => {
                let delete = Delete::parse(payload.body).unwrap();
                if delete.protocol == ProtocolId::IKE {
                    out.delete_ike()
                } else {
                    out.delete_esp(&delete.esp_spis().collect::<Vec<_>>())
                }
            }
            PayloadType::TS_I | PayloadType::TS_R => {
                out.ts(kind, &Ts::parse(payload.body).unwrap().selectors().collect::<Vec<_>>())
            }
            PayloadType::VENDOR => out.vendor(payload.body),
            _ => return None,
        }
        .unwrap();
    }
    let len = out.finish().len;
    buf.truncate(len);
    Some(buf)
}
