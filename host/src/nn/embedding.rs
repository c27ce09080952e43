//! Sum of word, position and track embeddings.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::composed;
use super::slices::{Direct, by_rows, contiguous, f32s, out, width};

/// Embeddings [rows·tokens, H] of `ids` and `track` (row after row, `tokens` each): word + position +
/// track, from tables [vocabulary, H], [positions, H] and [tracks, H].
///
/// # Errors
/// A token id, track code or length beyond its table.
pub fn embed(
    word: &Tensor,
    position: &Tensor,
    track_table: &Tensor,
    ids: &[u32],
    track: &[u32],
    tokens: usize,
) -> Result<Tensor> {
    let beyond = |values: &[u32], table: &Tensor| {
        Ok::<_, candle_core::Error>(values.iter().any(|&i| i as usize >= table.dim(0).unwrap_or(0)))
    };
    if tokens == 0
        || ids.len() != track.len()
        || !ids.len().is_multiple_of(tokens)
        || tokens > position.dim(0)?
    {
        bail!(
            "embed: got {} ids, {} track codes and {tokens} tokens a row, expected whole rows of at most {} tokens",
            ids.len(),
            track.len(),
            position.dim(0)?
        );
    }
    if beyond(ids, word)? || beyond(track, track_table)? {
        bail!(
            "embed: got a token id or track code beyond its table ({:?}, {:?})",
            word.dims(),
            track_table.dims()
        );
    }
    if !composed::fused(word) {
        return composed::embed(word, position, track_table, ids, track, tokens);
    }
    let positions = (0..ids.len()).map(|i| (i % tokens) as u32).collect();
    let index = Arc::new([ids.to_vec(), positions, track.to_vec()]);
    word.apply_op3(position, track_table, Gather(index))
}

/// Rows `places` of `x` [n, H].
///
/// # Errors
/// A place beyond the last row.
pub fn select_rows(x: &Tensor, places: &[u32]) -> Result<Tensor> {
    let rows = x.dim(0)?;
    if let Some(place) = places.iter().find(|&&place| place as usize >= rows) {
        bail!("select rows: got row {place}, expected one below {rows}");
    }
    let mut free = vec![true; rows];
    // Only different rows have their gradients in different places.
    if !composed::fused(x) && places.iter().all(|&place| std::mem::take(&mut free[place as usize])) {
        return composed::select_rows(x, places);
    }
    x.index_select(&Tensor::from_slice(places, places.len(), x.device())?, 0)
}

struct Gather(Arc<[Vec<u32>; 3]>);

impl CustomOp3 for Gather {
    fn name(&self) -> &'static str {
        "locus-embedding"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (word, position, track) =
            (f32s(s1, l1, self.name())?, f32s(s2, l2, self.name())?, f32s(s3, l3, self.name())?);
        let h = width(l1);
        let [ids, positions, codes] = &*self.0;
        let mut y = vec![0.0; ids.len() * h];
        by_rows(
            &mut y,
            h,
            #[inline(always)]
            |first, block| {
                for (i, y) in block.chunks_exact_mut(h).enumerate() {
                    let row = |table: &[f32], index: &[u32]| -> usize {
                        let at = index[first + i] as usize * h;
                        debug_assert!(at + h <= table.len());
                        at
                    };
                    let (w, p, t) = (
                        &word[row(word, ids)..][..h],
                        &position[row(position, positions)..][..h],
                        &track[row(track, codes)..][..h],
                    );
                    for (((y, w), p), t) in y.iter_mut().zip(w).zip(p).zip(t) {
                        *y = w + p + t;
                    }
                }
            },
        );
        out(y, (ids.len(), h))
    }

    fn bwd(
        &self,
        word: &Tensor,
        position: &Tensor,
        track: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = contiguous(g)?;
        let scatter = |table: &Tensor, which: usize| {
            g.apply_op1_no_bwd(&Scatter { index: self.0.clone(), which, rows: table.dim(0)? })
        };
        Ok((Some(scatter(word, 0)?), Some(scatter(position, 1)?), Some(scatter(track, 2)?)))
    }
}

/// Sums gradient rows by table row.
struct Scatter {
    index: Arc<[Vec<u32>; 3]>,
    which: usize,
    rows: usize,
}

impl CustomOp1 for Scatter {
    fn name(&self) -> &'static str {
        "locus-embedding-gradient"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = f32s(s, l, self.name())?;
        let h = width(l);
        let mut table = vec![0.0; self.rows * h];
        pulp::Arch::new().dispatch(Direct(
            #[inline(always)]
            || {
                for (row, &at) in g.chunks_exact(h).zip(&self.index[self.which]) {
                    table[at as usize * h..][..h].iter_mut().zip(row).for_each(|(t, g)| *t += g);
                }
            },
        ));
        out(table, (self.rows, h))
    }
}
