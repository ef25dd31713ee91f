//! The devices that this program can compute on. No other module names a burn backend.

use std::any::TypeId;

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn_flex::Flex;

/// The CPU backend.
pub type Inference = Flex;
/// The CPU backend with gradients.
pub type Training = Autodiff<Flex>;

/// NVIDIA GPUs.
#[cfg(feature = "cuda")]
pub type Cuda = burn_cuda::Cuda<f32, i32>;
/// GPUs through Vulkan or Metal.
#[cfg(feature = "wgpu")]
pub type Wgpu = burn_wgpu::Wgpu<f32, i32, u32>;

/// Whether `B` is the CPU backend.
pub fn is_cpu<B: Backend>() -> bool {
    TypeId::of::<B>() == TypeId::of::<Inference>()
}

/// A device that is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    #[cfg(feature = "cuda")]
    Cuda(usize),
    /// The GPU with this index, through Vulkan or Metal; the best one if `None`.
    #[cfg(feature = "wgpu")]
    Wgpu(Option<usize>),
}

/// Runs `$body` on the device `$choice`, with `$backend` as its backend type and `$device` as
/// burn's device.
#[macro_export]
macro_rules! on_device {
    ($choice:expr, |$backend:ident, $device:ident| $body:expr) => {
        match $choice {
            $crate::device::Device::Cpu => {
                type $backend = $crate::device::Inference;
                let $device = &Default::default();
                $body
            }
            #[cfg(feature = "cuda")]
            $crate::device::Device::Cuda(index) => {
                type $backend = $crate::device::Cuda;
                let $device = &$crate::device::cuda_device(index);
                $body
            }
            #[cfg(feature = "wgpu")]
            $crate::device::Device::Wgpu(index) => {
                type $backend = $crate::device::Wgpu;
                let $device = &$crate::device::wgpu_device(index);
                $body
            }
        }
    };
}

/// The value of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best device that this program was built for and this machine has.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by index if given.
    Cuda(Option<usize>),
    /// A GPU through Vulkan or Metal, by index if given.
    Wgpu(Option<usize>),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, number) = match text.split_once(':') {
            None => (text, None),
            Some((kind, number)) => {
                let number =
                    number.parse().map_err(|_| format!("{text:?}: expected a device index such as {kind}:0"))?;
                (kind, Some(number))
            }
        };
        let (choice, is_built) = match kind {
            "auto" if number.is_none() => (Self::Auto, true),
            "cpu" if number.is_none() => (Self::Cpu, true),
            "cuda" => (Self::Cuda(number), cfg!(feature = "cuda")),
            "wgpu" => (Self::Wgpu(number), cfg!(feature = "wgpu")),
            _ => return Err(format!("there is no device {text:?}; expected auto, cpu, cuda, cuda:N, wgpu or wgpu:N")),
        };
        if is_built {
            return Ok(choice);
        }
        Err(format!("this program was built without {kind} (cargo build --release --features {kind}); {}", devices()))
    }
}

impl DeviceChoice {
    /// Resolves the choice for the `local_rank`-th process on this machine.
    ///
    /// # Errors
    /// If the device is not available; the message lists those that are.
    pub fn device(self, local_rank: usize) -> Result<Device, String> {
        let _ = local_rank;
        match self {
            Self::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => match (cuda_count(), number.unwrap_or(local_rank)) {
                (Ok(count), number) if number < count => Ok(Device::Cuda(number)),
                (Ok(_), number) => Err(format!("there is no cuda:{number}; {}", devices())),
                (Err(reason), _) => Err(format!("cuda: {reason}; {}", devices())),
            },
            #[cfg(feature = "wgpu")]
            Self::Wgpu(number) => match wgpu_works(number) {
                true => Ok(Device::Wgpu(number)),
                false => Err(format!("wgpu: no Vulkan or Metal driver for that GPU; {}", devices())),
            },
            #[cfg(feature = "cuda")]
            Self::Auto if cuda_count().is_ok_and(|count| count > 0) => Self::Cuda(None).device(local_rank),
            Self::Auto => Ok(Device::Cpu),
            #[allow(unreachable_patterns, reason = "the features decide which variants remain")]
            _ => Err(devices()),
        }
    }
}

/// Lists the available devices, for messages.
fn devices() -> String {
    let found = std::iter::once("cpu".to_owned());
    #[cfg(feature = "cuda")]
    let found = found.chain((0..cuda_count().unwrap_or(0)).map(|i| format!("cuda:{i}")));
    #[cfg(feature = "wgpu")]
    let found = found.chain(wgpu_works(None).then(|| "wgpu".to_owned()));
    format!("available devices: {}", found.collect::<Vec<_>>().join(", "))
}

/// Number of NVIDIA GPUs.
#[cfg(feature = "cuda")]
fn cuda_count() -> Result<usize, String> {
    // SAFETY: the function only looks for a library, and loads it if it exists.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("no NVIDIA driver (libcuda.so.1 was not found)".into());
    }
    match cudarc::driver::CudaContext::device_count() {
        Ok(count) => Ok(count as usize),
        Err(error) => Err(format!("the NVIDIA driver reports {error:?}")),
    }
}

/// burn's device for the NVIDIA GPU `index`.
#[cfg(feature = "cuda")]
pub fn cuda_device(index: usize) -> burn_cuda::CudaDevice {
    burn_cuda::CudaDevice::new(index)
}

/// burn's device for the GPU `index`, or for the best one.
#[cfg(feature = "wgpu")]
pub fn wgpu_device(index: Option<usize>) -> burn_wgpu::WgpuDevice {
    index.map_or(burn_wgpu::WgpuDevice::DefaultDevice, burn_wgpu::WgpuDevice::DiscreteGpu)
}

/// Whether the GPU can be opened. The library panics if it cannot.
#[cfg(feature = "wgpu")]
fn wgpu_works(index: Option<usize>) -> bool {
    use burn::tensor::backend::Backend;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let works = std::panic::catch_unwind(|| Wgpu::sync(&wgpu_device(index)).is_ok()).unwrap_or(false);
    std::panic::set_hook(hook);
    works
}

/// Reserved bytes of `device`'s memory; `None` if the device does not report them.
pub fn reserved_bytes(device: Device) -> Option<u64> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    use burn_cubecl::cubecl::Runtime;
    match device {
        Device::Cpu => None,
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            let client = burn_cubecl::cubecl::cuda::CudaRuntime::client(&burn_cuda::CudaDevice::new(index));
            client.memory_usage().ok().map(|usage| usage.bytes_reserved)
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => {
            let client = burn_wgpu::WgpuRuntime::client(&wgpu_device(index));
            client.memory_usage().ok().map(|usage| usage.bytes_reserved)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_with_those_that_are() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        for text in ["tpu", "cpu:1", "cuda:one"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        // Either the feature is missing, or the index does not exist.
        let error = "cuda:9999".parse::<DeviceChoice>().and_then(|choice| choice.device(0)).unwrap_err();
        assert!(error.contains("cuda") && error.contains("available devices: cpu"), "{error}");
        assert!(DeviceChoice::Auto.device(0).is_ok());
    }
}
