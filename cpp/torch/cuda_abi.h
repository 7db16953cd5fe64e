// The part of the stable C ABI that only the CUDA operators use (see torch_abi.h).
#pragma once
#include "torch_abi.h"

extern "C" {
struct DeviceGuardOpaque;
using DeviceGuardHandle = DeviceGuardOpaque*;

AOTITorchError aoti_torch_create_device_guard(std::int32_t device_index, DeviceGuardHandle*);
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle);
AOTITorchError aoti_torch_get_current_cuda_stream(std::int32_t device_index, void** stream);
}
