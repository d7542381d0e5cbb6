/*
 * suites.h - the unit test suites, one line each: SUITE(name) stands for `Suite *name_suite(void)`
 *
 * Included with SUITE defined it makes of the list what the includer wants (the runner a table);
 * included without, as the files of the suites do, it declares their functions.
 */
#ifndef SUITE
#include <check.h>
#define SUITE(name) Suite *name##_suite(void);
/* A sanitizer's shadow memory alone is larger than any limit that could be set. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITABLE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMITABLE 0
#endif
#endif
#ifndef LIMITABLE
#define LIMITABLE 1
#endif

#endif

SUITE(buffer)
SUITE(clock)
SUITE(config)
SUITE(config_file)
SUITE(crc32c)
SUITE(error)
SUITE(files)
SUITE(json_out)
SUITE(log)
SUITE(mem)
SUITE(options)
SUITE(process)
SUITE(progress)
SUITE(relay)
SUITE(spool)
SUITE(units)
SUITE(workers)
SUITE(cms)
SUITE(compress)
SUITE(digest)
SUITE(keys)
SUITE(trailer)
SUITE(fetch)
SUITE(hook)
SUITE(restore_blocks)
SUITE(restore_config)
SUITE(restore_target)
SUITE(restore_tree)
SUITE(ship)
SUITE(survey)
SUITE(verify)
SUITE(connection)
SUITE(control)
SUITE(history)
SUITE(page)
SUITE(scan)
SUITE(version)
SUITE(wal)
SUITE(wal_reader)
SUITE(backup_info)
SUITE(catalog)
SUITE(layout)
SUITE(lock)
SUITE(manifest)
SUITE(known_files)
SUITE(map)
SUITE(map_cache)
SUITE(marks)
SUITE(object)
SUITE(object_encrypted)
SUITE(pack)
SUITE(refs)
SUITE(repository)
SUITE(retention)
SUITE(run)
SUITE(runs)
SUITE(unfinished)
SUITE(wal_archive)
SUITE(wal_scan)
SUITE(conformance)
SUITE(file_store)
SUITE(retry)
SUITE(s3)
SUITE(store)

#undef SUITE
