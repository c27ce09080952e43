//! AdamW's moments where the parameters are on a GPU: one tensor for all, so that a step is a dozen kernels instead of a
//! dozen for each parameter.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

/// Both moments of each parameter, as they are stored and as the CPU has them.
pub(super) type ByName = BTreeMap<String, (Vec<f32>, Vec<f32>)>;

/// Both moments of some parameters, one after the other.
pub(super) struct Moments {
    flat: Option<Flat>,
    /// Of parameters that the last step did not move.
    apart: BTreeMap<String, (Tensor, Tensor)>,
}

struct Flat {
    names: Vec<(String, usize)>,
    m: Tensor,
    v: Tensor,
}

/// What a step does to a parameter.
pub(super) struct Moved<'a> {
    pub(super) name: &'a str,
    pub(super) var: &'a Var,
    /// Share of the weight that decay leaves.
    pub(super) keep: f64,
    /// Learning rate over the first moment's correction.
    pub(super) step_size: f64,
}

/// What all parameters of a step share.
pub(super) struct Step {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    /// Largest gradient norm.
    pub(super) clip: f64,
    /// Reciprocal root of the second moment's correction.
    pub(super) root: f64,
}

/// All gradients one after the other, and their norm.
pub(super) fn flat_gradients<'a>(
    gradients: impl Iterator<Item = &'a Tensor>,
) -> Result<Option<(Tensor, f64)>> {
    let all = gradients.map(|g| g.flatten_all()?.to_dtype(DType::F32)).collect::<Result<Vec<_>>>()?;
    if all.is_empty() {
        return Ok(None);
    }
    let flat = Tensor::cat(&all, 0)?;
    let norm = f64::from(flat.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
    Ok(Some((flat, norm)))
}

/// A number for each parameter, once for each of its elements.
fn spread(all: &[Moved<'_>], of: impl Fn(&Moved<'_>) -> f64, device: &Device) -> Result<Tensor> {
    let first = all.first().map_or(0.0, &of);
    if all.iter().all(|p| of(p) == first) {
        return Tensor::full(first as f32, 1, device);
    }
    let parts = all.iter().map(|p| Tensor::full(of(p) as f32, p.var.elem_count(), device));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
}

impl Moments {
    /// Of moments that were read, or made on the CPU.
    pub(super) fn of(moments: &ByName) -> Result<Self> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        let pair =
            |(name, (m, v)): (&String, &(Vec<f32>, Vec<f32>))| Ok((name.clone(), (tensor(m)?, tensor(v)?)));
        Ok(Self { flat: None, apart: moments.iter().map(pair).collect::<Result<_>>()? })
    }

    /// Moves parameters against their gradients `g`, all of them one after the other, whose norm is `norm`.
    pub(super) fn step(&mut self, all: &[Moved<'_>], g: &Tensor, norm: f64, step: &Step) -> Result<()> {
        let device = g.device();
        let mut flat = self.gathered(all, device)?;
        let g = g.affine((step.clip / (norm + 1e-12)).min(1.0), 0.0)?;
        flat.m = (flat.m.affine(step.beta1, 0.0)? + g.affine(1.0 - step.beta1, 0.0)?)?;
        flat.v = (flat.v.affine(step.beta2, 0.0)? + g.sqr()?.affine(1.0 - step.beta2, 0.0)?)?;
        let change = flat.m.div(&flat.v.sqrt()?.affine(step.root, step.eps)?)?;
        let weights = all.iter().map(|p| p.var.as_tensor().detach().flatten_all());
        let weights = Tensor::cat(&weights.collect::<Result<Vec<_>>>()?, 0)?;
        let kept = weights.broadcast_mul(&spread(all, |p| p.keep, device)?)?;
        let moved = (kept - change.broadcast_mul(&spread(all, |p| p.step_size, device)?)?)?;
        let mut at = 0;
        for p in all {
            let n = p.var.elem_count();
            p.var.set(&moved.narrow(0, at, n)?.reshape(p.var.shape())?)?;
            at += n;
        }
        self.flat = Some(flat);
        Ok(())
    }

    /// The moments of these parameters in this order; new ones are zero.
    fn gathered(&mut self, all: &[Moved<'_>], device: &Device) -> Result<Flat> {
        if let Some(flat) = self.flat.take() {
            if flat.names.iter().map(|(name, _)| name.as_str()).eq(all.iter().map(|p| p.name)) {
                return Ok(flat);
            }
            self.scatter(&flat)?;
        }
        let (mut m, mut v) = (Vec::new(), Vec::new());
        for p in all {
            let zero = || Tensor::zeros(p.var.elem_count(), DType::F32, device);
            let (first, second) = match self.apart.remove(p.name) {
                Some((m, v)) => (m.to_device(device)?, v.to_device(device)?),
                None => (zero()?, zero()?),
            };
            m.push(first);
            v.push(second);
        }
        let names = all.iter().map(|p| (p.name.to_owned(), p.var.elem_count())).collect();
        Ok(Flat { names, m: Tensor::cat(&m, 0)?, v: Tensor::cat(&v, 0)? })
    }

    fn scatter(&mut self, flat: &Flat) -> Result<()> {
        let mut at = 0;
        for (name, n) in &flat.names {
            self.apart.insert(name.clone(), (flat.m.narrow(0, at, *n)?, flat.v.narrow(0, at, *n)?));
            at += n;
        }
        Ok(())
    }

    /// Moments by name, as they are stored.
    pub(super) fn values(&self) -> Result<ByName> {
        let mut all = BTreeMap::new();
        for (name, (m, v)) in &self.apart {
            all.insert(name.clone(), (m.to_vec1()?, v.to_vec1()?));
        }
        let Some(flat) = &self.flat else { return Ok(all) };
        let (m, v) = (flat.m.to_vec1::<f32>()?, flat.v.to_vec1::<f32>()?);
        let mut at = 0;
        for (name, n) in &flat.names {
            all.insert(name.clone(), (m[at..at + n].to_vec(), v[at..at + n].to_vec()));
            at += n;
        }
        Ok(all)
    }
}
