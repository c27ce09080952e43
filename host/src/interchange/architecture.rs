//! Which tensor of a Hugging Face folder is which of ours.

/// The two architectures of `transformers` that compute what [`crate::model::Encoder`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// BERT (Devlin et al. 2019): layer norm after each sub-layer.
    Bert,
    /// RoBERTa-PreLayerNorm (Ott et al. 2019): layer norm before each sub-layer, and at the end.
    RobertaPreLayerNorm,
}

/// Ours and RoBERTa-PreLayerNorm's, in the order in which they are replaced.
const RENAMED: [(&str, &str); 8] = [
    ("bert.encoder.LayerNorm", "bert.LayerNorm"),
    ("attention.output.LayerNorm", "attention.LayerNorm"),
    (".output.LayerNorm", ".intermediate.LayerNorm"),
    ("cls.predictions.transform.dense", "lm_head.dense"),
    ("cls.predictions.transform.LayerNorm", "lm_head.layer_norm"),
    ("cls.predictions.decoder", "lm_head.decoder"),
    ("cls.predictions.bias", "lm_head.bias"),
    ("bert.", "roberta_prelayernorm."),
];

impl Architecture {
    /// By `model_type`.
    pub(super) fn of(model_type: &str) -> Option<Self> {
        [Self::Bert, Self::RobertaPreLayerNorm].into_iter().find(|a| a.model_type() == model_type)
    }

    /// The one whose layer norms stand where the configuration says.
    pub(super) fn with_norm(position: &str) -> Self {
        if position == "pre" { Self::RobertaPreLayerNorm } else { Self::Bert }
    }

    pub(super) const fn model_type(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::RobertaPreLayerNorm => "roberta-prelayernorm",
        }
    }

    pub(super) const fn norm_position(self) -> &'static str {
        match self {
            Self::Bert => "post",
            Self::RobertaPreLayerNorm => "pre",
        }
    }

    /// The class with a masked-token head.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Bert => "BertForMaskedLM",
            Self::RobertaPreLayerNorm => "RobertaPreLayerNormForMaskedLM",
        }
    }

    /// Rows of the position table before the first token's: RoBERTa counts from its padding token's id + 1.
    pub(super) const fn positions_before(self, pad: usize) -> usize {
        match self {
            Self::Bert => 0,
            Self::RobertaPreLayerNorm => pad + 1,
        }
    }

    /// What a folder saved from the bare encoder leaves out of its names.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::RobertaPreLayerNorm => "roberta_prelayernorm.",
        }
    }

    /// Its name of one of our tensors.
    pub(super) fn name_of(self, own: &str) -> String {
        match self {
            Self::Bert => own.to_owned(),
            Self::RobertaPreLayerNorm => {
                RENAMED.iter().fold(own.to_owned(), |name, (ours, theirs)| name.replacen(ours, theirs, 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_before_the_sub_layers_have_their_own_names() {
        let name = |own| Architecture::RobertaPreLayerNorm.name_of(own);
        assert_eq!(
            name("bert.encoder.layer.3.attention.output.LayerNorm.bias"),
            "roberta_prelayernorm.encoder.layer.3.attention.LayerNorm.bias"
        );
        assert_eq!(
            name("bert.encoder.layer.3.output.LayerNorm.weight"),
            "roberta_prelayernorm.encoder.layer.3.intermediate.LayerNorm.weight"
        );
        assert_eq!(
            name("bert.encoder.layer.3.attention.output.dense.weight"),
            "roberta_prelayernorm.encoder.layer.3.attention.output.dense.weight"
        );
        assert_eq!(name("bert.encoder.LayerNorm.bias"), "roberta_prelayernorm.LayerNorm.bias");
        assert_eq!(name("cls.predictions.transform.LayerNorm.bias"), "lm_head.layer_norm.bias");
        assert_eq!(Architecture::Bert.name_of("bert.encoder.LayerNorm.bias"), "bert.encoder.LayerNorm.bias");
    }
}
