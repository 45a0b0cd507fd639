//! TOKENS -> [`Batch`]: ragged, nothing padded; and the plan that cuts many texts into small batches.

use crate::error::{Error, Result};

/// Token ids of several texts, end to end.
///
/// Of each text the first tokens are attended to by all of its tokens, the rest (the mask tokens of a query) by nobody.
/// Padding has no place here: a device that needs it adds it inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    ids: Vec<u32>,
    /// Where each text begins, and at the end the total: one more than there are texts.
    offsets: Vec<usize>,
    attended: Vec<usize>,
}

impl Batch {
    /// Joins texts, each given by its ids and the number of ids attended to.
    ///
    /// # Errors
    /// [`Error::Shape`] if a text has tokens but none that is attended to, or fewer than are attended to.
    ///
    /// ```
    /// let batch = chandelier::Batch::new([(&[4, 7, 5][..], 3), (&[4, 5, 6, 6][..], 2)])?;
    /// assert_eq!(batch.positions().collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 3]);
    /// assert_eq!(batch.texts().collect::<Vec<_>>(), [(0, 3, 3), (3, 4, 2)]);
    /// # Ok::<(), chandelier::Error>(())
    /// ```
    pub fn new<'a>(texts: impl IntoIterator<Item = (&'a [u32], usize)>) -> Result<Self> {
        let mut batch = Self { ids: Vec::new(), offsets: vec![0], attended: Vec::new() };
        for (index, (ids, attended)) in texts.into_iter().enumerate() {
            if attended > ids.len() || (attended == 0 && !ids.is_empty()) {
                let got = format!("{attended} tokens attended to of {}", ids.len());
                return Err(Error::shape(
                    format!("text {index} of the batch"),
                    got,
                    "at least 1, at most all",
                ));
            }
            batch.ids.extend_from_slice(ids);
            batch.offsets.push(batch.ids.len());
            batch.attended.push(attended);
        }
        Ok(batch)
    }

    /// The ids of all texts, one after the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The position of every token in its own text.
    pub fn positions(&self) -> impl Iterator<Item = u32> + '_ {
        self.offsets.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32)
    }

    /// Every text as `(first row, rows, rows attended to)`.
    pub fn texts(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.offsets.windows(2).zip(&self.attended).map(|(w, &attended)| (w[0], w[1] - w[0], attended))
    }
}

/// Cuts texts of the given lengths into batches of about `batch_tokens` tokens, longest first, so that the last
/// batches are short and no thread waits long for another. Every index appears once; a text longer than
/// `batch_tokens` has a batch of its own.
///
/// ```
/// assert_eq!(chandelier::batch::plan(&[10, 300, 20, 200], 256), [vec![1], vec![3, 2, 0]]);
/// ```
pub fn plan(lengths: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        match batches.last_mut() {
            Some(batch) if lengths[index] <= room => batch.push(index),
            _ => {
                batches.push(vec![index]);
                room = batch_tokens.max(lengths[index]);
            }
        }
        room -= lengths[index];
    }
    batches
}
