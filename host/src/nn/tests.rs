//! Composed and fused ops are the same function: values and gradients agree.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::*;
use crate::device;

/// Rounding of f32 sums in another order, and of the polynomials that stand for exp and erf in fused ops.
const TOLERANCE: f32 = 1e-5;

/// Numbers between -1 and 1.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    Tensor::from_vec(values(shape.iter().product(), seed), shape, &Device::Cpu).unwrap()
}

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Value, and gradients of every input for an output gradient that differs from element to element; on the CPU.
fn run(inputs: &[Tensor], device: &Device, op: Op<'_>) -> Vec<Vec<f32>> {
    let vars: Vec<Var> =
        inputs.iter().map(|t| Var::from_tensor(&t.to_device(device).unwrap()).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = op(&tensors).unwrap();
    let weights = tensor(y.dims(), 99).to_device(device).unwrap();
    let total = (&y * weights).unwrap().sum_all().unwrap();
    let gradients = total.backward().unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let of = |v: &Var| flat(gradients.get(v.as_tensor()).expect("every input has a gradient"));
    std::iter::once(flat(&y)).chain(vars.iter().map(of)).collect()
}

/// Compares the fused op with the composed one, on the CPU and on a GPU where there is one.
fn agree(name: &str, shapes: &[&[usize]], op: Op<'_>) {
    let inputs: Vec<Tensor> = shapes.iter().zip(1..).map(|(shape, seed)| tensor(shape, seed)).collect();
    let fused = run(&inputs, &Device::Cpu, op);
    assert!(fused.iter().all(|part| part.iter().any(|v| *v != 0.0)), "{name}: a gradient is nothing");
    for device in device::all() {
        let composed = without_fused(|| run(&inputs, &device, op));
        for (part, (a, b)) in fused.iter().zip(&composed).enumerate() {
            assert_eq!(a.len(), b.len(), "{name}, part {part}");
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() <= TOLERANCE * (1.0 + a.abs()), "{name}, part {part}: {a} and {b}");
            }
        }
    }
}

#[test]
fn the_switch_is_this_threads_and_ends_with_its_scope() {
    let x = tensor(&[2, 3], 1);
    assert!(composed::fused(&x) && !without_fused(|| composed::fused(&x)));
    let other = std::thread::spawn(move || composed::fused(&x));
    assert!(without_fused(|| other.join().unwrap()));
    let _ = std::panic::catch_unwind(|| without_fused(|| panic!("as a failing test does")));
    assert!(
        composed::fused(&tensor(&[1], 1)) && !composed::fused(&tensor(&[1], 1).to_dtype(DType::F16).unwrap())
    );
}

#[test]
fn bias_and_gelu() {
    agree("bias", &[&[7, 24], &[24]], &|t| bias_add(&t[0], &t[1]));
    agree("GELU", &[&[7, 24], &[24]], &|t| bias_gelu(&t[0].affine(4.0, 0.0)?, &t[1]));
}

#[test]
fn layer_norms() {
    agree("layer norm", &[&[9, 32], &[32], &[32]], &|t| layer_norm(&t[0], &t[1], &t[2], 1e-12));
}

#[test]
fn attention_under_a_mask() {
    let shape = Attention { batch: 2, tokens: 5, heads: 2, head_width: 4 };
    agree("attention", &[&[10, 24], &[24]], &|t| {
        let mask = vec![1.0f32, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0];
        attention(&t[0].affine(3.0, 0.0)?, &t[1], &Tensor::from_vec(mask, (2, 5), t[0].device())?, shape)
    });
}

#[test]
fn dropout_drops_the_same_elements() {
    let drop = Dropout::new(0.3, 11);
    agree("dropout", &[&[40, 16]], &|t| dropout(&t[0], drop));
    agree("residual", &[&[40, 16], &[16], &[40, 16]], &|t| bias_dropout_residual(&t[0], &t[1], &t[2], drop));
    agree("residual without dropout", &[&[5, 16], &[16], &[5, 16]], &|t| {
        bias_dropout_residual(&t[0], &t[1], &t[2], Dropout::NONE)
    });
}

#[test]
fn embeddings_of_repeated_tokens() {
    // As many positions as there are, and more.
    for positions in [4, 6] {
        agree("embedding", &[&[7, 8], &[positions, 8], &[3, 8]], &|t| {
            let (ids, track) = ([0, 3, 3, 6, 1, 3, 0, 2], [0, 1, 1, 2, 0, 1, 0, 2]);
            embed(&t[0], &t[1], &t[2], &ids, &track, 4)
        });
    }
}

#[test]
fn selected_rows() {
    agree("rows", &[&[6, 8]], &|t| select_rows(&t[0], &[4, 0, 5]));
    agree("rows twice", &[&[6, 8]], &|t| select_rows(&t[0], &[4, 0, 4]));
    let x = tensor(&[6, 8], 1);
    for all in [&[6u32][..], &[0, 1, 9]] {
        let error = select_rows(&x, all).unwrap_err().to_string();
        assert!(error.contains("expected one below 6"), "{error}");
    }
}

#[test]
fn losses() {
    let wide = |t: &Tensor| t.affine(6.0, 0.0);
    agree("binary cross-entropy", &[&[6, 1]], &|t| {
        bce_with_logits(&wide(&t[0])?, &[0.0, 1.0, 0.3, 1.0, 0.0, 0.9], &[1.0, 2.0, 1.0, 0.5, 3.0, 1.0])
    });
    agree("cross-entropy", &[&[5, 7]], &|t| cross_entropy(&wide(&t[0])?, &[0, 6, 3, 3, 1]));
    agree("Huber", &[&[6, 1]], &|t| huber(&wide(&t[0])?, &values(6, 42)));
    let weights = vec![1.0, 0.2, 3.0];
    for (smoothing, focal, weights) in
        [(0.0, 0.0, vec![]), (0.1, 0.0, weights.clone()), (0.0, 2.0, vec![]), (0.1, 1.5, weights)]
    {
        let how = ClassLoss { smoothing, focal, weights };
        agree("class loss", &[&[5, 3]], &|t| class_loss(&wide(&t[0])?, &[0, 2, 1, 1, 0], &how));
    }
}

#[test]
fn half_precision_is_near_and_keeps_its_type() {
    let shape = Attention { batch: 2, tokens: 5, heads: 2, head_width: 4 };
    let mask = Tensor::ones((2, 5), DType::F32, &Device::Cpu).unwrap();
    let (qkv, bias, g) = (tensor(&[10, 24], 1), tensor(&[24], 2), tensor(&[10, 8], 3));
    let exact = attention(&qkv, &bias, &mask, shape).unwrap();
    let slope = attention_gradient(&qkv, &bias, &mask, &g, shape).unwrap();
    let gelu = bias_gelu_gradient(&qkv, &bias, &qkv).unwrap();
    // Three roundings to 8 or 11 bits on the way of numbers up to 2.
    for (dtype, tolerance) in [(DType::BF16, 0.06), (DType::F16, 0.008)] {
        let low = |t: &Tensor| t.to_dtype(dtype).unwrap();
        let near = |got: Tensor, want: &Tensor| {
            assert_eq!(got.dtype(), dtype);
            let difference = (got.to_dtype(DType::F32).unwrap() - want).unwrap().abs().unwrap();
            let most = difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(most > 0.0 && most < tolerance, "{dtype:?}: {most}");
        };
        near(attention(&low(&qkv), &low(&bias), &mask, shape).unwrap(), &exact);
        near(attention_gradient(&low(&qkv), &low(&bias), &mask, &low(&g), shape).unwrap(), &slope);
        near(bias_gelu_gradient(&low(&qkv), &low(&bias), &low(&qkv)).unwrap(), &gelu);
        assert_eq!(column_sum(&low(&qkv)).unwrap().dtype(), DType::F32);
    }
}
