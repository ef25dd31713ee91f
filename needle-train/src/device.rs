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
            Self::Cuda(number) => {
                let count = cuda_count().map_err(|reason| format!("cuda: {reason}; {}", devices()))?;
                let number = cuda_ordinal(number, local_rank, count)
                    .map_err(|number| format!("there is no cuda:{number}; {}", devices()))?;
                has_cuda_headers().map_err(|reason| format!("cuda: {reason}"))?;
                keep_kernels();
                Ok(Device::Cuda(number))
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu(number) => {
                keep_kernels();
                if wgpu_works(number) {
                    return Ok(Device::Wgpu(number));
                }
                Err(format!("wgpu: no Vulkan or Metal driver for that GPU; {}", devices()))
            }
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

/// Whether the headers are there with which kernels are compiled at run time. Without them, the
/// first kernel would end the program with all of its source.
#[cfg(feature = "cuda")]
fn has_cuda_headers() -> Result<(), String> {
    let help = "install CUDA's toolkit, or NVIDIA's packages cuda-cudart-dev and cuda-crt, and set CUDA_PATH to the \
                folder that holds `include`";
    let Some(place) = burn_cubecl::cubecl::cuda::install::cuda_path() else {
        return Err(format!("CUDA's headers were not found: {help}"));
    };
    for header in ["cuda_runtime.h", "crt/mma.h"] {
        let path = place.join("include").join(header);
        if !path.exists() {
            return Err(format!("CUDA's header {} was not found: {help}", path.display()));
        }
    }
    Ok(())
}

/// The index of the NVIDIA GPU for the `local_rank`-th process of this machine: the one that is
/// asked for, else its own; the only one if there is only one, because many launchers show each
/// process nothing but its own GPU. The error is an index that does not exist.
#[cfg(any(feature = "cuda", test))]
fn cuda_ordinal(asked: Option<usize>, local_rank: usize, count: usize) -> Result<usize, usize> {
    let index = asked.unwrap_or(if count == 1 { 0 } else { local_rank });
    if index < count { Ok(index) } else { Err(index) }
}

/// Keeps compiled kernels and the results of autotuning in the user's configuration directory
/// (`~/.config` on Linux), unless a `cubecl.toml` names another place. The next process then starts
/// at once. It also computes the same: autotuning chooses kernels by their speed, so two runs that
/// tune on their own may sum in different orders.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn keep_kernels() {
    use burn_cubecl::cubecl::config::cache::CacheConfig;
    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    let mut kept = CubeClRuntimeConfig::storage().lock();
    // The location below is looked up from the home directory, and the library panics without one.
    if kept.is_some() || std::env::home_dir().is_none() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    // The default is a directory called target near the working directory.
    if matches!(config.autotune.cache, CacheConfig::Target) {
        config.autotune.cache = CacheConfig::Global;
    }
    config.compilation.cache.get_or_insert(CacheConfig::Global);
    *kept = Some(std::sync::Arc::new(config));
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

    #[test]
    fn a_process_takes_the_gpu_of_its_local_rank_or_the_only_one_that_it_is_shown() {
        assert_eq!(cuda_ordinal(None, 3, 8), Ok(3));
        assert_eq!(cuda_ordinal(None, 3, 1), Ok(0));
        assert_eq!(cuda_ordinal(Some(5), 3, 8), Ok(5));
        assert_eq!(cuda_ordinal(Some(1), 0, 1), Err(1), "what is asked for is not replaced");
        assert_eq!((cuda_ordinal(None, 3, 2), cuda_ordinal(None, 0, 0)), (Err(3), Err(0)));
    }
}
