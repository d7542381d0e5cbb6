/* state.h - a state directory for fuzz targets of what is stored in one */
#ifndef PGVIGIL_FUZZ_STATE_H
#define PGVIGIL_FUZZ_STATE_H

/* Made at the first call, with its directory for caches; goes when the process exits. */
const char *fuzz_state(void);

#endif
