//! Activation functions by their names in checkpoints.

pub use crate::kernels::Activation;

impl Activation {
    /// A name that does not change: fingerprints hang on it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Relu => "relu",
            Self::Silu => "silu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
        }
    }

    /// By the `hidden_act` of a transformers configuration.
    pub(crate) fn from_hidden_act(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "relu" => Self::Relu,
            "silu" | "swish" => Self::Silu,
            _ => return None,
        })
    }

    /// By the dotted class name in a Dense configuration.
    pub(crate) fn from_torch_class(class: &str) -> Option<Self> {
        let name = class.strip_prefix("torch.nn.modules.")?.split_once('.')?;
        Some(match name {
            ("linear", "Identity") => Self::Identity,
            ("activation", "GELU") => Self::Gelu,
            ("activation", "ReLU") => Self::Relu,
            ("activation", "SiLU") => Self::Silu,
            ("activation", "Tanh") => Self::Tanh,
            ("activation", "Sigmoid") => Self::Sigmoid,
            _ => return None,
        })
    }

    /// The message for a name that is none of the above.
    pub(crate) fn unknown(name: &str) -> String {
        format!("got {name:?}, wanted one of Identity, GELU, ReLU, SiLU, Tanh, Sigmoid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_or_do_not() {
        assert_eq!(Activation::from_torch_class("torch.nn.modules.activation.Tanh"), Some(Activation::Tanh));
        assert_eq!(Activation::from_torch_class("torch.nn.modules.activation.Mish"), None);
        assert_eq!(Activation::from_torch_class("Tanh"), None);
        assert_eq!(Activation::from_hidden_act("gelu_pytorch_tanh"), Some(Activation::GeluTanh));
        assert_eq!(Activation::from_hidden_act("gelu_fast"), None);
    }
}
