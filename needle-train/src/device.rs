//! The one place that names a backend.

use burn::backend::Autodiff;
use burn_flex::Flex;

/// What inference runs on.
pub type Inference = Flex;
/// What training runs on.
pub type Training = Autodiff<Flex>;
/// A device of either.
pub type Device = burn_flex::FlexDevice;

/// What the user asked for with `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best that this program was built with.
    #[default]
    Auto,
    /// The processor.
    Cpu,
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split(':').next()) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some("cuda" | "wgpu")) => Err(format!("this program was built without {text}; it has: cpu")),
            _ => Err(format!("there is no device {text:?}; expected auto or cpu")),
        }
    }
}

impl DeviceChoice {
    /// The device.
    pub fn device(self) -> Device {
        match self {
            Self::Auto | Self::Cpu => Device::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_built_in_is_refused_with_what_there_is() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        let error = "cuda:1".parse::<DeviceChoice>().unwrap_err();
        assert!(error.contains("cuda:1") && error.contains("cpu"), "{error}");
        assert!("tpu".parse::<DeviceChoice>().is_err());
    }
}
