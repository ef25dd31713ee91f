/* A stub of NVIDIA's driver (libcuda.so.1) with one device of compute capability 9.0 that runs nothing: memory is the host's, and a
 * launch does nothing. With it and the real NVRTC, a program compiles all the kernels that it would launch, without a GPU. Only what
 * burn-cuda 0.21 calls is here; the numbers of attributes are those of cuda.h (CUdevice_attribute).
 *
 * STAND_IN_OUT names a directory for each kernel's PTX (1.ptx, 2.ptx, ..) and for `launches`: a count and a kernel's name a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long Pointer;
static int context, modules, launches;

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8ull << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 75: *value = 9; break;                     /* compute capability, major */
    case 76: *value = 0; break;                     /* and minor */
    case 10: *value = 32; break;                    /* warp size */
    case 97: *value = 232448; break;                /* most shared memory of a block */
    case 16: *value = 132; break;                   /* multiprocessors */
    case 1: case 2: case 3: *value = 1024; break;   /* threads of a block; its x and y */
    case 4: *value = 64; break;                     /* its z */
    case 5: *value = 2147483647; break;             /* blocks of a grid: x */
    case 6: case 7: *value = 65535; break;          /* y and z */
    default: *value = 1;
    }
    return 0;
}
int cuDevicePrimaryCtxRetain(void **out, int device) { *out = &context; return 0; }
int cuCtxSetCurrent(void *current) { return 0; }

static int allocate(void **out, size_t bytes) { *out = calloc(1, bytes ? bytes : 1); return *out ? 0 : 2; }
int cuMemAllocAsync(Pointer *out, size_t bytes, void *stream) { return allocate((void **)out, bytes); }
int cuMemAlloc_v2(Pointer *out, size_t bytes) { return allocate((void **)out, bytes); }
int cuMemAllocHost_v2(void **out, size_t bytes) { return allocate(out, bytes); }
int cuMemFreeAsync(Pointer pointer, void *stream) { free((void *)pointer); return 0; }
int cuMemFree_v2(Pointer pointer) { free((void *)pointer); return 0; }
int cuMemFreeHost(void *pointer) { free(pointer); return 0; }
int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *stream) { memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *stream) { memcpy(to, (void *)from, bytes); return 0; }

/* CUDA_MEMCPY2D */
typedef struct {
    size_t from_x, from_y; int from_type; const void *from_host; Pointer from_device; void *from_array; size_t from_pitch;
    size_t to_x, to_y; int to_type; void *to_host; Pointer to_device; void *to_array; size_t to_pitch;
    size_t width, height;
} Copy;
int cuMemcpy2DAsync_v2(const Copy *c, void *stream) {
    const char *from = (c->from_type == 1 ? (const char *)c->from_host : (const char *)c->from_device) + c->from_y * c->from_pitch + c->from_x;
    char *to = (c->to_type == 1 ? (char *)c->to_host : (char *)c->to_device) + c->to_y * c->to_pitch + c->to_x;
    for (size_t row = 0; row < c->height; row++) memcpy(to + row * c->to_pitch, from + row * c->from_pitch, c->width);
    return 0;
}

int cuStreamCreate(void **out, unsigned flags) { return allocate(out, 1); }
int cuStreamSynchronize(void *stream) { return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cuEventCreate(void **out, unsigned flags) { return allocate(out, 1); }
int cuEventRecord(void *event, void *stream) { return 0; }
int cuEventSynchronize(void *event) { return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }

/* A file in STAND_IN_OUT, or NULL. */
static FILE *create(const char *name) {
    char path[4096];
    const char *place = getenv("STAND_IN_OUT");
    if (!place || snprintf(path, sizeof path, "%s/%s", place, name) >= (int)sizeof path) return NULL;
    return fopen(path, "w");
}

typedef struct { char *name; int launches; } Function;
static Function functions[4096];
static int function_count;

int cuModuleLoadData(void **out, const void *image) {
    char name[32];
    snprintf(name, sizeof name, "%d.ptx", ++modules);
    FILE *file = create(name);
    if (file) { fputs(image, file); fclose(file); }
    return allocate(out, 1);
}
int cuModuleGetFunction(void **out, void *module, const char *name) {
    if (function_count == sizeof functions / sizeof *functions) return 2;
    functions[function_count].name = strdup(name);
    *out = &functions[function_count++];
    return 0;
}
int cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    launches++;
    ((Function *)f)->launches++;
    return 0;
}
int cuTensorMapEncodeTiled() { return 0; }
int cuTensorMapEncodeIm2col() { return 0; }
int cuTensorMapEncodeIm2colWide() { return 0; }
int cuGetErrorName(int error, const char **out) { *out = "an error of the stand-in driver"; return 0; }
int cuGetErrorString(int error, const char **out) { return cuGetErrorName(error, out); }

__attribute__((destructor)) static void report(void) {
    if (modules) fprintf(stderr, "compiled %d kernels; %d launches did nothing\n", modules, launches);
    FILE *file = create("launches");
    if (!file) return;
    for (int i = 0; i < function_count; i++) fprintf(file, "%d %s\n", functions[i].launches, functions[i].name);
    fclose(file);
}
