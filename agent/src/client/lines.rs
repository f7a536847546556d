//! The lines of a watch: JSON objects, one per line, in a body without a known end.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::client::Body;

use super::MAX_ANSWER_BYTES;
use super::outcome::Failure;

/// The lines of a watch.
#[derive(Debug)]
pub struct Lines {
    body: Body,
    splitter: Splitter,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, splitter: Splitter::default() }
    }

    /// The next line; `None` when the API server has ended the watch. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(line) = self.splitter.lines.pop_front() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::Broken(Box::new(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.splitter.add(&data)?;
                    }
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Splitter {
    lines: VecDeque<Vec<u8>>,
    begun: Vec<u8>,
}

impl Splitter {
    fn add(&mut self, data: &Bytes) -> Result<(), Failure> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.lines.push_back(std::mem::take(&mut self.begun));
            } else if self.begun.len() > MAX_ANSWER_BYTES {
                return Err(Failure::Broken("a line of the watch has no end".into()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_are_cut() {
        let text = b"{\"a\":1}\n{\"b\":2}\n{\"unfinished\"";
        for size in 1..text.len() {
            let mut splitter = Splitter::default();
            for piece in text.chunks(size) {
                splitter.add(&Bytes::copy_from_slice(piece)).unwrap();
            }
            assert_eq!(splitter.lines, [b"{\"a\":1}\n".to_vec(), b"{\"b\":2}\n".to_vec()], "pieces of {size}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(pieces in prop::collection::vec(prop::collection::vec(any::<u8>().prop_map(|b| b % 16), 0..40), 0..12)) {
            let mut splitter = Splitter::default();
            for piece in &pieces {
                prop_assert!(splitter.add(&Bytes::copy_from_slice(piece)).is_ok());
            }
            let is_one_line = |line: &Vec<u8>| line.iter().position(|byte| *byte == b'\n') == Some(line.len() - 1);
            prop_assert!(splitter.lines.iter().all(is_one_line) && !splitter.begun.contains(&b'\n'));
            let out: Vec<u8> = splitter.lines.into_iter().flatten().chain(splitter.begun).collect();
            prop_assert_eq!(out, pieces.concat());
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut splitter = Splitter::default();
        let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
        let refused = (0..=MAX_ANSWER_BYTES >> 20).find(|_| splitter.add(&megabyte).is_err());
        assert!(refused.is_some());
    }
}
