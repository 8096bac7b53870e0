// Stands in for the header of a CUDA build of torch. Nothing that it declares is called: only host functions are used.
#pragma once
#include <cuda_runtime_api.h>
namespace at::cuda {
cudaStream_t getCurrentCUDAStream(int device);
}
