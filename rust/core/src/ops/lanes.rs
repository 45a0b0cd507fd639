//! Reductions in 16 lanes: a plain sum must be done in order, one in lanes may fill the widest registers.

/// Folds `row` with `step` in 16 lanes that all begin at `start`, then joins the lanes.
#[inline(always)]
pub(super) fn fold_lanes(
    row: &[f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; 16];
    let chunks = row.chunks_exact(16);
    let tail = chunks.remainder().iter().fold(start, |sum, &x| step(sum, x));
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, x);
        }
    }
    lanes.iter().fold(tail, |sum, &lane| join(sum, lane))
}
