/* Asks a model from C: ask DIR. Exits 0 if every function does what needle.h says. */
#undef NDEBUG
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "needle.h"

static const char *TOOLS =
    "[{\"name\":\"setTimer\",\"description\":\"Start a timer\","
    "\"parameters\":{\"minutes\":{\"type\":\"integer\",\"enum\":[5,10],\"required\":true}}}]";

static void collect(uint32_t index, const char *piece, void *user_data) {
    char *text = user_data;
    assert(index > 0 || text[0] == 0);
    strcat(text, piece);
}

int main(int argc, char **argv) {
    assert(argc == 2);
    NeedleHandle *needle = needle_load(argv[1], NULL);
    if (!needle) {
        fprintf(stderr, "%s\n", needle_last_error());
        return 1;
    }
    assert(!needle_last_error());

    char *answer = needle_run(needle, "a timer for ten minutes", TOOLS);
    if (!answer) fprintf(stderr, "%s\n", needle_last_error());
    assert(answer && answer[0] == '[');
    printf("%s\n", answer);

    char streamed[4096] = "";
    char *again = needle_run_stream(needle, "a timer for ten minutes", TOOLS, collect, streamed);
    assert(again && !strcmp(again, answer) && !strcmp(streamed, answer));
    char *all = needle_run_json(needle, "a timer for ten minutes", TOOLS);
    assert(all && strstr(all, "\"is_complete\":true") && strstr(all, answer));

    size_t dim = needle_contrastive_dim(needle);
    assert(dim > 0);
    float *vector = calloc(dim, sizeof *vector), length = 0;
    assert(needle_encode_contrastive(needle, "a timer", vector, dim));
    for (size_t i = 0; i < dim; i++) length += vector[i] * vector[i];
    assert(fabsf(length - 1) < 1e-4f);
    assert(!needle_encode_contrastive(needle, "a timer", vector, dim - 1) && needle_last_error());

    const char *descriptions[] = {"{\"name\":\"lamp\"}", "a timer", "{\"name\":\"mail\"}"};
    size_t best[2];
    float scores[2];
    assert(needle_retrieve_tools(needle, "a timer", descriptions, 3, 2, best, scores) == 2);
    assert(best[0] == 1 && fabsf(scores[0] - 1) < 1e-4f && scores[0] >= scores[1]);

    assert(!needle_run(needle, "a timer", "[{]") && strstr(needle_last_error(), "tools"));
    assert(!needle_run(needle, NULL, TOOLS) && !strcmp(needle_last_error(), "query is NULL"));
    assert(!needle_run(NULL, "a timer", TOOLS) && !strcmp(needle_last_error(), "handle is NULL"));
    assert(!needle_load("/there/is/no/such/model", NULL) && strstr(needle_last_error(), "such"));

    needle_free_str(answer);
    needle_free_str(again);
    needle_free_str(all);
    needle_free_str(NULL);
    free(vector);
    needle_free(needle);
    needle_free(NULL);
    return 0;
}
