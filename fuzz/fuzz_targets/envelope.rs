//! Envelopes of streams, in pieces as they come from the network.
#![no_main]

use bytes::BytesMut;
use connectrpc::envelope::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (limit, pieces) = match bytes {
        [limit, rest @ ..] => (usize::from(*limit) * 4, rest.chunks(7)),
        [] => return,
    };
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.len();
            match Envelope::decode_with_limit(&mut buffer, limit) {
                Ok(Some(envelope)) => {
                    assert!(envelope.data.len() <= limit, "the limit holds");
                    assert!(buffer.len() < before, "it goes on");
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
