//! Small matrix products in scratch memory, blocked for registers.

use pulp::Simd;

/// Rows and columns of scratch matrices are padded to a multiple of this: two of the widest vectors.
pub(super) const PAD: usize = 32;

/// Rows of one register block; with two vectors a row it takes eight accumulators, as many as two
/// multiply-add units of latency four keep busy.
const BLOCK: usize = 4;

/// How the left factor lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Row after row: element (i, l) at `i * width + l`.
    Rows,
    /// Column after column: element (i, l) at `l * width + i`.
    Columns,
}

/// `c` [.., n] = left factor [.., k] · `b` [k, n], both row after row; `n` and the rows of `c` are
/// multiples of [`PAD`]. `width` is the distance between rows (or columns) of `a`.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    (a, left, width): (&[f32], Left, usize),
    (b, k): (&[f32], usize),
    (c, n): (&mut [f32], usize),
) {
    let rows = c.len() / n;
    let lanes = n / S::F32_LANES;
    let (b, c) = (S::as_simd_f32s(b).0, S::as_mut_simd_f32s(c).0);
    for i in (0..rows).step_by(BLOCK) {
        for j in (0..lanes).step_by(2) {
            let mut sum = [[simd.splat_f32s(0.0); 2]; BLOCK];
            match left {
                Left::Rows => {
                    let (a0, a1) = (&a[i * width..][..k], &a[(i + 1) * width..][..k]);
                    let (a2, a3) = (&a[(i + 2) * width..][..k], &a[(i + 3) * width..][..k]);
                    for (l, b) in b.chunks_exact(lanes).take(k).enumerate() {
                        step(simd, &mut sum, [a0[l], a1[l], a2[l], a3[l]], b[j], b[j + 1]);
                    }
                }
                Left::Columns => {
                    for (b, a) in b.chunks_exact(lanes).zip(a.chunks_exact(width)).take(k) {
                        let a = &a[i..i + BLOCK];
                        step(simd, &mut sum, [a[0], a[1], a[2], a[3]], b[j], b[j + 1]);
                    }
                }
            }
            for (r, sum) in sum.into_iter().enumerate() {
                c[(i + r) * lanes + j] = sum[0];
                c[(i + r) * lanes + j + 1] = sum[1];
            }
        }
    }
}

#[inline(always)]
fn step<S: Simd>(simd: S, sum: &mut [[S::f32s; 2]; BLOCK], a: [f32; BLOCK], b0: S::f32s, b1: S::f32s) {
    for r in 0..BLOCK {
        let a = simd.splat_f32s(a[r]);
        sum[r][0] = simd.mul_add_e_f32s(a, b0, sum[r][0]);
        sum[r][1] = simd.mul_add_e_f32s(a, b1, sum[r][1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Both<'a> {
        rows: &'a [f32],
        columns: &'a [f32],
        b: &'a [f32],
        k: usize,
        n: usize,
        out: [&'a mut [f32]; 2],
    }

    impl pulp::WithSimd for Both<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let [first, second] = self.out;
            let m = first.len() / self.n;
            product(simd, (self.rows, Left::Rows, self.k), (self.b, self.k), (first, self.n));
            product(simd, (self.columns, Left::Columns, m), (self.b, self.k), (second, self.n));
        }
    }

    #[test]
    fn both_layouts_give_the_plain_product_on_every_instruction_set() {
        let (m, n, k) = (32, 64, 5);
        let value = |i: usize| ((i * 37 % 19) as f32 - 9.0) / 4.0;
        let rows: Vec<f32> = (0..m * k).map(value).collect();
        let columns: Vec<f32> = (0..m * k).map(|i| rows[(i % m) * k + i / m]).collect();
        let b: Vec<f32> = (0..k * n).map(|i| value(i + 7)).collect();
        let at = |i: usize| (0..k).map(|l| rows[i / n * k + l] * b[l * n + i % n]).sum::<f32>();
        for arch in [pulp::Arch::new(), pulp::Arch::Scalar] {
            let (mut first, mut second) = (vec![0.0; m * n], vec![0.0; m * n]);
            let out = [&mut first[..], &mut second[..]];
            arch.dispatch(Both { rows: &rows, columns: &columns, b: &b, k, n, out });
            // The values are small multiples of 1/16: the sums are exact in any order.
            assert!((0..m * n).all(|i| first[i] == at(i) && second[i] == at(i)));
        }
    }
}
