//! From a request to what the model reads. Cheap, pure, and the same for every transport.

use std::{path::Path, sync::Arc};

use locus_engine::{BundleError, bundle::Pack};
use locus_firmware_config::message::{
    Around, BaseAttribution, Fault, FaultCode, ModelInfo, Request, TranscriptSpec,
};
use locus_genome::{
    CONTEXT_BASES, EncodeError, EncodedVariant, Mutation, ReadError, ReferencePack, Strand, Transcript,
    Variant, VariantEncoder,
    assembly::{canonical, same},
    dna::{MAX_SEQUENCE_BASES, normalise},
    encode::{Allele, Stretch},
    hgvs::{Names, is_hgvs, names},
    transcript::{CdsPart, Exon},
};

use super::{
    ActiveModel, Models, explain,
    explain::Altered,
    loaded::{Encoded, Reader},
};

/// Longest mutation or variant, in characters: two alleles of 1,000 bases, and where they are.
const MAX_CHANGE: usize = 2_200;

/// The genome of a box.
#[derive(Debug)]
pub struct Genome {
    pub(super) pack: ReferencePack,
    assembly: String,
    info: ModelInfo,
}

/// What is said of a change beside the prediction.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) names: Names,
    pub(super) assembly: Option<String>,
    pub(super) reference: Option<ModelInfo>,
    pub(super) notes: Vec<String>,
    /// What is scored to explain the answer.
    pub(super) altered: Vec<Altered>,
    pub(super) attribution: Vec<BaseAttribution>,
    pub(super) around: Option<Around>,
}

/// A request, read.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) encoded: Encoded,
    pub(super) about: About,
}

impl Genome {
    /// Reads bases and transcripts.
    ///
    /// # Errors
    /// As [`ReferencePack::open`].
    pub fn open(fasta: &Path, gff: &Path, assembly: &str) -> Result<Self, ReadError> {
        let pack = ReferencePack::open(fasta, gff)?;
        for reason in pack.skipped() {
            tracing::warn!("{reason}");
        }
        // Files have neither version nor digest of their own.
        let name = fasta.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let info = ModelInfo { name, version: String::new(), digest: String::new() };
        Ok(Self { pack, assembly: canonical(assembly).to_owned(), info })
    }

    /// The genome of a verified pack.
    ///
    /// # Errors
    /// Parts that contradict each other.
    pub fn of_pack(pack: Pack) -> Result<Self, BundleError> {
        let manifest = pack.manifest();
        let info = ModelInfo {
            name: manifest.name.clone(),
            version: manifest.version.to_string(),
            digest: pack.digest().to_owned(),
        };
        let assembly = canonical(&manifest.assembly).to_owned();
        Ok(Self { pack: pack.into_reference()?, assembly, info })
    }

    /// Its assembly.
    pub fn assembly(&self) -> &str {
        &self.assembly
    }

    /// Name, version and digest of the pack; of plain files the name of the FASTA file alone.
    pub const fn info(&self) -> &ModelInfo {
        &self.info
    }
}

fn fault_of(error: &EncodeError) -> Fault {
    Fault::new(FaultCode::from_name(error.code()).unwrap_or(FaultCode::BadRequest), error.to_string())
}

/// Makes a model's input of a request.
pub(super) fn read(
    model: &ActiveModel,
    genome: Option<&Genome>,
    request: &Request,
) -> Result<Prepared, Fault> {
    match &model.reader {
        Reader::Variant(encoder) => {
            let (variant, about) = described(encoder, genome, request)?;
            Ok(Prepared { encoded: Encoded::Variant(Box::new(variant)), about })
        }
        Reader::Sequence(encoder) => {
            let sequence = request.sequence.as_deref().unwrap_or_default();
            if sequence.is_empty() {
                return Err(Fault::new(
                    FaultCode::Empty,
                    "got an empty sequence, expected one letter or more",
                ));
            }
            let read = encoder.encode(sequence).map(Encoded::Sequence);
            let read = read.map(|encoded| Prepared { encoded, about: About::default() });
            read.map_err(|error| Fault::new(FaultCode::BadSequence, error.to_string()))
        }
    }
}

/// The model that a request is for: the one that it names, or the only one that takes its form.
///
/// # Errors
/// [`FaultCode::NoModel`], [`FaultCode::UnknownModel`], [`FaultCode::BadRequest`].
pub(super) fn choose(models: &Models, request: &Request) -> Result<Arc<ActiveModel>, Fault> {
    if models.is_empty() {
        let message = "no model is active on this box; flash one with `locusctl flash`";
        return Err(Fault::new(FaultCode::NoModel, message));
    }
    let listed = |models: &[&Arc<ActiveModel>]| {
        let names: Vec<&str> = models.iter().map(|model| model.info.name.as_str()).collect();
        names.join(", ")
    };
    if let Some(asked) = &request.model {
        let all: Vec<_> = models.values().collect();
        let named = all.iter().find(|model| is_asked(model, asked)).ok_or_else(|| {
            let message = format!(
                "got model {asked:?}, expected one that is active ({}), by name, name@version or digest",
                listed(&all)
            );
            Fault::new(FaultCode::UnknownModel, message)
        })?;
        return Ok(Arc::clone(named));
    }
    let fitting: Vec<_> = models.values().filter(|model| takes(model, request)).collect();
    match fitting.as_slice() {
        [one] => Ok(Arc::clone(one)),
        [] if is_sequence(request) => Err(Fault::new(
            FaultCode::BadRequest,
            format!(
                "got a sequence alone, expected a mutation with it; the active models ({}) judge variants",
                listed(&models.values().collect::<Vec<_>>())
            ),
        )),
        [] => Err(Fault::new(
            FaultCode::BadRequest,
            format!(
                "got a variant, expected a sequence alone; the active models ({}) judge whole sequences",
                listed(&models.values().collect::<Vec<_>>())
            ),
        )),
        several => Err(Fault::new(
            FaultCode::BadRequest,
            format!("got no model, expected one of {}: each takes such requests", listed(several)),
        )),
    }
}

const fn is_sequence(request: &Request) -> bool {
    request.mutation.is_none() && request.variant.is_none()
}

fn takes(model: &ActiveModel, request: &Request) -> bool {
    matches!(model.reader, Reader::Sequence(_)) == is_sequence(request)
}

fn is_asked(model: &ActiveModel, asked: &str) -> bool {
    let info = &model.info;
    asked == info.name || asked == info.digest || asked == format!("{}@{}", info.name, info.version)
}

/// Makes a variant model's input of a request.
///
/// # Errors
/// A [`Fault`] for a request that cannot be read on this box.
pub fn encode(
    encoder: &VariantEncoder,
    genome: Option<&Genome>,
    request: &Request,
) -> Result<EncodedVariant, Fault> {
    described(encoder, genome, request).map(|(variant, _)| variant)
}

fn described(
    encoder: &VariantEncoder,
    genome: Option<&Genome>,
    request: &Request,
) -> Result<(EncodedVariant, About), Fault> {
    for (key, text) in [("mutation", &request.mutation), ("variant", &request.variant)] {
        if let Some(length) = text.as_ref().map(String::len).filter(|length| *length > MAX_CHANGE) {
            let message = format!("got a {key} of {length} characters, expected at most {MAX_CHANGE}");
            return Err(Fault::new(FaultCode::BadMutation, message));
        }
    }
    if let Some(variant) = &request.variant {
        return encode_variant(encoder, genome, variant, request);
    }
    let sequence = request.sequence.as_deref().unwrap_or_default();
    let mutation: Mutation =
        request.mutation.as_deref().unwrap_or_default().parse().map_err(|e| fault_of(&e))?;
    let transcript = request
        .transcript
        .as_ref()
        .map(|spec| transcript_of(spec, request))
        .transpose()
        .map_err(|e| fault_of(&e))?;
    let encoded =
        encoder.encode_sequence(sequence, &mutation, transcript.as_ref()).map_err(|e| fault_of(&e))?;
    let mut about = About::default();
    let explained = request.explain == Some(true);
    if transcript.is_some() || explained {
        let bases = normalise(sequence, MAX_SEQUENCE_BASES).map_err(|e| fault_of(&e))?;
        let stretch = Stretch { bases: &bases, first: 1 };
        let (reference, alt) = ([mutation.ref_allele], [mutation.alt_allele]);
        let position = i64::try_from(mutation.position).unwrap_or(i64::MAX);
        if let Some(transcript) = &transcript {
            about.names = names(&stretch, transcript, position, &reference, &alt);
        }
        if explained {
            let allele = Allele { position, ref_allele: &reference, alt_allele: &alt };
            about.altered = explain::alter(encoder, stretch, &allele, transcript.as_ref(), &encoded);
            about.around = Some(explain::around(&stretch, &allele, transcript.as_ref()));
        }
    }
    Ok((encoded, about))
}

fn encode_variant(
    encoder: &VariantEncoder,
    genome: Option<&Genome>,
    variant: &str,
    request: &Request,
) -> Result<(EncodedVariant, About), Fault> {
    let Some(genome) = genome else {
        return Err(Fault::new(
            FaultCode::NoReference,
            "got a variant by position, but this box has no reference pack; send the sequence with the mutation instead",
        ));
    };
    if let Some(asked) = &request.assembly
        && !same(asked, &genome.assembly)
    {
        return Err(Fault::new(
            FaultCode::WrongAssembly,
            format!("got assembly {asked:?}, expected {}: lift the variant over first", genome.assembly),
        ));
    }
    let mut about = About {
        assembly: Some(genome.assembly.clone()),
        reference: Some(genome.info.clone()),
        ..About::default()
    };
    let (variant, asked) = found(genome, variant, request, &mut about).map_err(|e| fault_of(&e))?;
    let read = || {
        let pack = &genome.pack;
        let transcript = pack.transcript_for(&variant, asked.as_deref())?;
        let encoded = encoder.encode_on(pack, &variant, transcript, CONTEXT_BASES, Strand::Forward)?;
        if let Some(transcript) = transcript {
            about.names = pack.hgvs_names(&variant, transcript)?;
        }
        if request.explain == Some(true) {
            let around = pack.bases_around(&variant.contig, variant.position, 2 * CONTEXT_BASES)?;
            let allele = Allele {
                position: i64::try_from(variant.position).unwrap_or(i64::MAX),
                ref_allele: variant.ref_allele.as_bytes(),
                alt_allele: variant.alt_allele.as_bytes(),
            };
            about.altered = explain::alter(encoder, around.stretch(), &allele, transcript, &encoded);
            about.around = Some(explain::around(&around.stretch(), &allele, transcript));
        }
        Ok((encoded, about))
    };
    read().map_err(|e| fault_of(&e))
}

/// The change that a request names, by position or by an HGVS name, and the transcript that it is read on.
fn found(
    genome: &Genome,
    variant: &str,
    request: &Request,
    about: &mut About,
) -> Result<(Variant, Option<String>), EncodeError> {
    let asked = request.transcript_id.as_deref();
    if !is_hgvs(variant) {
        return Ok((variant.parse()?, asked.map(str::to_owned)));
    }
    let name = variant.parse()?;
    let found = genome.pack.find_hgvs(&name, request.gene.as_deref(), asked, &genome.assembly)?;
    if found.chosen {
        about.notes.push(format!(
            "no transcript was named: the gene's first one in the reference pack was taken, {}",
            found.transcript_id.as_deref().unwrap_or("-")
        ));
    }
    Ok((found.variant, found.transcript_id))
}

fn transcript_of(spec: &TranscriptSpec, request: &Request) -> Result<Transcript, EncodeError> {
    let strand = if spec.strand == "-" { Strand::Reverse } else { Strand::Forward };
    Transcript::new(
        request.transcript_id.clone().unwrap_or_default(),
        request.gene.clone().unwrap_or_default(),
        strand,
        spec.exons.iter().map(|&(start, end)| Exon { start, end }).collect(),
        spec.cds.iter().map(|&(start, end, phase)| CdsPart { start, end, phase }).collect(),
    )
}

/// Whether this model is the one that was asked for, and takes what is asked.
///
/// # Errors
/// [`FaultCode::UnknownModel`], [`FaultCode::BadRequest`], [`FaultCode::WrongAssembly`].
pub(super) fn check_model(
    model: &ActiveModel,
    genome: Option<&Genome>,
    request: &Request,
) -> Result<(), Fault> {
    let info = &model.info;
    if let Some(asked) = &request.model
        && !is_asked(model, asked)
    {
        return Err(Fault::new(
            FaultCode::UnknownModel,
            format!(
                "got model {asked:?}, expected {} (or {}@{}, or its digest): another model is active",
                info.name, info.name, info.version
            ),
        ));
    }
    if !takes(model, request) {
        let (got, expected) = match is_sequence(request) {
            true => ("a sequence alone", "a mutation with it, or a variant"),
            false => ("a variant", "a sequence alone"),
        };
        let message = format!("got {got}, expected {expected}: so {} is asked", info.name);
        return Err(Fault::new(FaultCode::BadRequest, message));
    }
    if let Some(asked) = &request.assembly
        && !model.assembly.is_empty()
        && !same(asked, &model.assembly)
    {
        return Err(Fault::new(
            FaultCode::WrongAssembly,
            format!("got assembly {asked:?}, expected {}, on which the model was trained", model.assembly),
        ));
    }
    match genome.filter(|_| request.variant.is_some()).and_then(|genome| other_assembly(model, genome)) {
        Some(what) => Err(Fault::new(FaultCode::WrongAssembly, what)),
        None => Ok(()),
    }
}

/// What is wrong where genome and model do not go together: positions and bases would be read off the wrong genome.
pub(super) fn other_assembly(model: &ActiveModel, genome: &Genome) -> Option<String> {
    let variants = matches!(model.reader, Reader::Variant(_));
    (variants && !same(&model.assembly, &genome.assembly)).then(|| {
        format!(
            "got a reference pack of {}, expected {}, on which the model was trained: variants by position are refused until the box has that pack, sequences are answered",
            genome.assembly, model.assembly
        )
    })
}

/// What the reader of an answer should know of how it came about.
pub(super) fn warnings(model: &ActiveModel, request: &Request, encoded: &Encoded) -> Vec<String> {
    let mut warnings: Vec<String> = model
        .skipped
        .iter()
        .map(|skipped| {
            format!("engine {} is configured but does not serve: {}", skipped.engine, skipped.reason)
        })
        .collect();
    warnings.extend(model.note.clone());
    if let Encoded::Variant(encoded) = encoded {
        warnings.extend(variant_warnings(request, encoded));
    }
    if request.explain == Some(true) && !matches!(encoded, Encoded::Variant(_)) {
        warnings.push("explain was asked for; answers about whole sequences are not explained".into());
    }
    warnings
}

fn variant_warnings(request: &Request, encoded: &EncodedVariant) -> Vec<String> {
    let mut warnings = Vec::new();
    if request.sequence.is_some() && request.transcript.is_none() {
        warnings.push(
            "no transcript was given: the reading frame is unknown, and consequence and amino-acid change were not used"
                .into(),
        );
        if request.transcript_id.is_some() {
            warnings.push("transcript_id was not used: a sequence needs the transcript itself".into());
        }
    }
    if request.variant.is_some() && encoded.transcript_id.is_none() {
        warnings.push("the reference pack has no transcript near this position".into());
    }
    if !encoded.phases_agree {
        warnings.push(
            "the phases of the transcript's coding parts contradict the parts' lengths: the reading frame, and with it the change of protein, may be wrong"
                .into(),
        );
    }
    warnings
}
