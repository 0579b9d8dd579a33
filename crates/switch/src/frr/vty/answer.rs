//! What a daemon says to one command: a text, and then a mark that no text has in it.

/// More than this is no answer of FRR's. A leaf with 512 ports prints 600 KiB.
pub(crate) const LENGTH: usize = 64 << 20;
/// After the text: three zeros and how it went.
const MARK: usize = 4;

/// An answer that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// For people or JSON. What is no UTF-8 comes with signs in its place.
    pub(crate) text: String,
    /// FRR's word for how it went.
    pub(crate) status: u8,
}

impl Said {
    /// Done, with a warning at most.
    pub(crate) fn is_done(&self) -> bool {
        self.status <= 1
    }
}

/// An answer that arrives in parts.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
}

/// Nothing that FRR says to one command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("there is a zero in the middle of the text; is this FRR's socket?")]
    Zero,
    #[error("it says more than it was asked")]
    More,
    #[error("the text is longer than {} MiB", LENGTH >> 20)]
    Long,
}

impl Answer {
    /// Takes what arrived. The answer, as soon as it is complete.
    pub(crate) fn take(&mut self, part: &[u8]) -> Result<Option<Said>, Broken> {
        // A zero that came before is the beginning of the mark, which has only four bytes: the search is never long.
        let from = self.bytes.len().saturating_sub(MARK);
        self.bytes.extend_from_slice(part);
        let Some(end) = self.bytes[from..].iter().position(|byte| *byte == 0) else {
            return if self.bytes.len() > LENGTH { Err(Broken::Long) } else { Ok(None) };
        };
        let (text, mark) = self.bytes.split_at(from + end);
        if mark.iter().take(MARK - 1).any(|byte| *byte != 0) {
            return Err(Broken::Zero);
        }
        match mark {
            [_, _, _, status] => {
                let text = String::from_utf8_lossy(text).into_owned();
                Ok(Some(Said { text, status: *status }))
            }
            [_, _, _, _, ..] => Err(Broken::More),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Option<Said>, Broken> {
        Answer::default().take(bytes)
    }

    fn said(text: &str, status: u8) -> Said {
        Said { text: text.into(), status }
    }

    #[test]
    fn a_text_and_how_it_went() {
        assert_eq!(all(b"hostname vm\n\0\0\0\0"), Ok(Some(said("hostname vm\n", 0))));
        assert_eq!(all(b"\0\0\0\0"), Ok(Some(said("", 0))));
        let refused = all(b"% [BGP] Unknown command: show x\n\0\0\0\x02").unwrap().unwrap();
        assert!(!refused.is_done());
        assert!(all(b"% none\n\0\0\0\x01").unwrap().unwrap().is_done(), "a warning");
        assert_eq!(all(b"half"), Ok(None));
        assert_eq!(all(b"\xff\0\0\0\0"), Ok(Some(said("\u{fffd}", 0))));
    }

    #[test]
    fn what_is_no_answer() {
        assert_eq!(all(b"a\0b"), Err(Broken::Zero));
        assert_eq!(all(b"a\0\0\x01\0"), Err(Broken::Zero));
        assert_eq!(all(b"a\0\0\0\0b"), Err(Broken::More));
        let mut endless = Answer::default();
        let part = vec![b'a'; 16 << 20];
        let parts: Vec<_> = (0..5).map(|_| endless.take(&part)).collect();
        assert_eq!(parts[3], Ok(None));
        assert_eq!(parts[4], Err(Broken::Long));
    }

    proptest! {
        #[test]
        fn parts_make_the_same_answer(text in "[^\0]{0,20}", status: u8, cuts in prop::collection::vec(1..6_usize, 1..9)) {
            let bytes = [text.as_bytes(), &[0, 0, 0, status]].concat();
            let (mut answer, mut rest, mut cuts) = (Answer::default(), &bytes[..], cuts.iter().cycle());
            let last = loop {
                let (part, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                let taken = answer.take(part).unwrap();
                rest = left;
                match taken {
                    None => prop_assert!(!rest.is_empty()),
                    Some(said) => break said,
                }
            };
            prop_assert!(rest.is_empty(), "complete with its last byte, and not before");
            prop_assert_eq!(last, said(&text, status));
        }

        #[test]
        fn anything_is_survived(parts in prop::collection::vec(prop::collection::vec(0..3_u8, 0..6), 0..9)) {
            let mut answer = Answer::default();
            for part in parts {
                if answer.take(&part) != Ok(None) {
                    break;
                }
            }
        }
    }
}
