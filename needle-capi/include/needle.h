/* The C ABI of the needle engine. Link with libneedle_capi (shared or static; see docs/EMBEDDING.md).
 *
 * Strings are UTF-8 and end with NUL. On failure a function returns NULL, false or 0, and needle_last_error() says why. No
 * function ends the process, throws or unwinds on any input except an invalid pointer. */

#ifndef NEEDLE_H
#define NEEDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * A loaded model. Several threads may use it at the same time.
 */
typedef struct NeedleHandle NeedleHandle;

/**
 * Receives one piece of the answer: its index, counted from 0, and its NUL-terminated UTF-8 text,
 * which is valid until the callback returns.
 */
typedef void (*NeedleStreamCallback)(uint32_t piece_index, const char *piece, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Loads a model. Either `weights_path` is a needle.safetensors file and `vocab_path` its
 * vocab.txt, or `weights_path` is a directory with both files or a training checkpoint, and
 * `vocab_path` is NULL.
 *
 * Returns NULL on failure; needle_last_error() says why. Free the handle with needle_free().
 *
 * # Safety
 * Each argument is NULL or a NUL-terminated string.
 */
NeedleHandle *needle_load(const char *weights_path, const char *vocab_path);

/**
 * Like needle_load(), but computes with `threads` threads; 0 means as many as the CPU has. The
 * answers do not depend on the number of threads.
 *
 * # Safety
 * As for needle_load().
 */
NeedleHandle *needle_load_with_threads(const char *weights_path,
                                       const char *vocab_path,
                                       size_t threads);

/**
 * Loads a model from the contents of needle.safetensors and vocab.txt. Both are copied.
 *
 * Returns NULL on failure. Free the handle with needle_free().
 *
 * # Safety
 * Each pointer is NULL or points to as many bytes as the length that follows it.
 */
NeedleHandle *needle_load_bytes(const uint8_t *weights_data,
                                size_t weights_len,
                                const uint8_t *vocab_data,
                                size_t vocab_len);

/**
 * Answers a query with calls of the offered tools, as JSON:
 * [{"name":"get_weather","arguments":{"city":"Paris"}}], or [] if no tool fits. `tools_json` is a
 * JSON list of tool definitions in Needle's own, the JSON Schema, the OpenAI or the MCP form.
 *
 * Returns NULL on failure, and also if the answer is not a complete list of calls. Free the string
 * with needle_free_str().
 *
 * # Safety
 * `handle` is NULL or was returned by needle_load(), needle_load_with_threads() or
 * needle_load_bytes() and has not been freed. The strings are NULL or NUL-terminated.
 */
char *needle_run(const NeedleHandle *handle, const char *query, const char *tools_json);

/**
 * Like needle_run(). In addition `callback`, unless it is NULL, receives each piece of the
 * answer's JSON as it is written, together with `user_data`, on the calling thread.
 *
 * # Safety
 * As for needle_run(); `callback` returns normally and does not free the handle.
 */
char *needle_run_stream(const NeedleHandle *handle,
                        const char *query,
                        const char *tools_json,
                        NeedleStreamCallback callback,
                        void *user_data);

/**
 * Like needle_run(), but returns everything that is known about the answer: {"calls": [..],
 * "text": "..", "confidence": 0.93 or null, "is_complete": true, "abstained": false, "violations":
 * [".."], "seconds": 0.004}.
 *
 * If the answer is not a complete list of calls, is_complete is false; this is not a failure.
 *
 * # Safety
 * As for needle_run().
 */
char *needle_run_json(const NeedleHandle *handle, const char *query, const char *tools_json);

/**
 * Number of values of an embedding; 0 if the model has no retrieval head, and on failure.
 *
 * # Safety
 * `handle` is NULL or was returned by needle_load(), needle_load_with_threads() or
 * needle_load_bytes() and has not been freed.
 */
size_t needle_contrastive_dim(const NeedleHandle *handle);

/**
 * Writes the embedding of a text, a unit vector, to `out`. `dim` must be needle_contrastive_dim().
 * The dot product of two embeddings is their cosine similarity.
 *
 * Returns false on failure.
 *
 * # Safety
 * As for needle_run(); `out` is NULL or points to `dim` values.
 */
bool needle_encode_contrastive(const NeedleHandle *handle,
                               const char *text,
                               float *out,
                               size_t dim);

/**
 * Ranks tools by cosine similarity to a query; each tool is described by its compact JSON. Writes
 * the indices of the `top_k` best tools, best first, and their similarities. Returns how many it
 * wrote (at most `n_tools`); 0 on failure.
 *
 * # Safety
 * As for needle_run(); `tool_descs` points to `n_tools` strings, `out_indices` and `out_scores`
 * point to `top_k` values each; any of the three may be NULL.
 */
size_t needle_retrieve_tools(const NeedleHandle *handle,
                             const char *query,
                             const char *const *tool_descs,
                             size_t n_tools,
                             size_t top_k,
                             size_t *out_indices,
                             float *out_scores);

/**
 * Frees a string that this library returned. Does nothing if `string` is NULL.
 *
 * # Safety
 * `string` is NULL or came from this library and has not been freed.
 */
void needle_free_str(char *string);

/**
 * Frees a model. Does nothing if `handle` is NULL.
 *
 * # Safety
 * `handle` is NULL or came from this library and has not been freed, and no other call uses it.
 */
void needle_free(NeedleHandle *handle);

/**
 * Why the last call on this thread failed, in one sentence; NULL if it succeeded. The string is
 * valid until the next call on this thread. Do not free it.
 */
const char *needle_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NEEDLE_H */
