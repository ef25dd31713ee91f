/* The C ABI of the needle engine. Link with libneedle_capi (shared or static; see docs/EMBEDDING.md).
 *
 * Strings are UTF-8 and end with NUL. A failure is NULL, false or 0, and needle_last_error() says why. No function ends the
 * process, throws or unwinds, whatever it is given, except a pointer to no memory. */

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
 * Is given a piece of the answer: its number, from 0, and its NUL-terminated UTF-8 text, which
 * lives until it returns.
 */
typedef void (*NeedleStreamCallback)(uint32_t piece_index, const char *piece, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Loads a model. `weights_path` is a needle.safetensors and `vocab_path` its vocab.txt; or
 * `weights_path` is a directory with both, or a training checkpoint, and `vocab_path` is NULL.
 *
 * Returns NULL on failure: see needle_last_error(). The handle is to be freed with needle_free().
 *
 * # Safety
 * Both are NULL or NUL-terminated strings.
 */
NeedleHandle *needle_load(const char *weights_path, const char *vocab_path);

/**
 * As needle_load(), computing with so many threads; 0 is as many as the CPU has. Answers do not
 * depend on it.
 *
 * # Safety
 * As needle_load().
 */
NeedleHandle *needle_load_with_threads(const char *weights_path,
                                       const char *vocab_path,
                                       size_t threads);

/**
 * Loads a model from the contents of needle.safetensors and vocab.txt, which are copied.
 *
 * Returns NULL on failure. The handle is to be freed with needle_free().
 *
 * # Safety
 * Each pointer is NULL or the beginning of so many bytes.
 */
NeedleHandle *needle_load_bytes(const uint8_t *weights_data,
                                size_t weights_len,
                                const uint8_t *vocab_data,
                                size_t vocab_len);

/**
 * Answers a query with calls of the offered tools:
 * [{"name":"get_weather","arguments":{"city":"Paris"}}], or [] where no tool fits. Tools are a
 * JSON list in Needle's, the JSON Schema, the OpenAI or the MCP form.
 *
 * Returns NULL on failure, also where the answer is no whole list of calls. The string is to be
 * freed with needle_free_str().
 *
 * # Safety
 * `handle` is NULL or of needle_load(), and not freed; the strings are NULL or NUL-terminated.
 */
char *needle_run(const NeedleHandle *handle, const char *query, const char *tools_json);

/**
 * As needle_run(); `callback`, if not NULL, is given each piece of the answer's JSON as it comes,
 * on the calling thread.
 *
 * # Safety
 * As needle_run(); `callback` returns, and does not free the handle.
 */
char *needle_run_stream(const NeedleHandle *handle,
                        const char *query,
                        const char *tools_json,
                        NeedleStreamCallback callback,
                        void *user_data);

/**
 * As needle_run(), with all that is known of the answer: {"calls": [..], "text": "..",
 * "confidence": 0.93 or null, "is_complete": true, "abstained": false, "violations": [".."],
 * "seconds": 0.004}.
 *
 * An answer that is no whole list of calls is told by is_complete, and is not a failure.
 *
 * # Safety
 * As needle_run().
 */
char *needle_run_json(const NeedleHandle *handle, const char *query, const char *tools_json);

/**
 * Length of an embedding; 0 for a model without a retrieval head.
 *
 * # Safety
 * `handle` is NULL or of needle_load(), and not freed.
 */
size_t needle_contrastive_dim(const NeedleHandle *handle);

/**
 * Writes the unit vector of a text to `out`, which has needle_contrastive_dim() values. The dot
 * product of two is their likeness.
 *
 * Returns false on failure.
 *
 * # Safety
 * As needle_run(); `out` is NULL or the beginning of `dim` values.
 */
bool needle_encode_contrastive(const NeedleHandle *handle,
                               const char *text,
                               float *out,
                               size_t dim);

/**
 * Ranks tools by likeness to a query, each described by its compact JSON: writes the indices of
 * the `top_k` best, best first, and their likenesses, and returns how many it wrote; 0 on failure.
 *
 * # Safety
 * As needle_run(); `tool_descs` has `n_tools` strings, `out_indices` and `out_scores` have `top_k`
 * values, or are NULL.
 */
size_t needle_retrieve_tools(const NeedleHandle *handle,
                             const char *query,
                             const char *const *tool_descs,
                             size_t n_tools,
                             size_t top_k,
                             size_t *out_indices,
                             float *out_scores);

/**
 * Frees a string that this library returned. NULL is nothing to free.
 *
 * # Safety
 * `string` is NULL or came from this library, and is not freed yet.
 */
void needle_free_str(char *string);

/**
 * Frees a model. NULL is nothing to free.
 *
 * # Safety
 * `handle` is NULL or came from this library, is not freed yet, and no call uses it.
 */
void needle_free(NeedleHandle *handle);

/**
 * Why the last call on this thread failed, in one sentence; NULL if it did not fail. It lives
 * until the next call on this thread, and is not to be freed.
 */
const char *needle_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NEEDLE_H */
