#include <check.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/store.h"
#include "store/gather.h"
#include "store/s3_answer.h"
#include "store/s3_credentials.h"
#include "store/s3_list.h"
#include "store/s3_sign.h"
#include "store/s3_xml.h"
#include "suites.h"
#include "support/listing.h"
#include "support/memory_store.h"
#include "support/scratch.h"

static struct error err;

/* The examples of "Signature Calculations for the Authorization Header" in Amazon's S3 reference. */
static void check_signature(const char *path, const char *query, const struct s3_header *headers,
                            size_t count, const char *expected)
{
    const struct s3_signing signing = {
        .method = "GET",
        .path = path,
        .query = query,
        .headers = headers,
        .header_count = count,
        .payload_sha256 = S3_SHA256_OF_NOTHING,
        .date = "20130524T000000Z",
        .region = "us-east-1",
        .service = "s3",
        .access_key_id = "AKIAIOSFODNN7EXAMPLE",
        .secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    };
    char *authorization = s3_sign(&signing);

    ck_assert_msg(strstr(authorization, expected) != NULL, "%s", authorization);
    ck_assert_ptr_nonnull(strstr(
        authorization, "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"));
    ck_assert_ptr_null(strstr(authorization, signing.secret_access_key));
    free(authorization);
}

START_TEST(signatures)
{
    static const struct s3_header ranged[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                              {"range", "bytes=0-9"},
                                              {"x-amz-content-sha256", S3_SHA256_OF_NOTHING},
                                              {"x-amz-date", "20130524T000000Z"}};
    static const struct s3_header plain[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                             {"x-amz-content-sha256", S3_SHA256_OF_NOTHING},
                                             {"x-amz-date", "20130524T000000Z"}};

    check_signature("/test.txt", "", ranged, 4,
                    "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature="
                    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    check_signature("/", "lifecycle=", plain, 3,
                    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check_signature("/", "max-keys=2&prefix=J", plain, 3,
                    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}
END_TEST

START_TEST(encoding)
{
    char *path = s3_sign_encode("a b/c+d~\xc3\xa4", S3_SLASH_SEPARATES);
    char *text = s3_sign_encode("a/b=&", S3_SLASH_IS_TEXT);
    char *nothing = s3_sign_encode("", S3_SLASH_IS_TEXT);

    ck_assert_str_eq(path, "a%20b/c%2Bd~%C3%A4");
    ck_assert_str_eq(text, "a%2Fb%3D%26");
    ck_assert_str_eq(nothing, "");
    free(path);
    free(text);
    free(nothing);
}
END_TEST

START_TEST(dates)
{
    char date[S3_DATE_SIZE];
    int64_t moment;

    ck_assert_str_eq(s3_sign_date(INT64_C(1369353600000000), date), "20130524T000000Z");
    ck_assert(s3_list_parse_date("Fri, 24 May 2013 00:00:00 GMT", &moment));
    ck_assert_int_eq(moment, INT64_C(1369353600000000));
    ck_assert(!s3_list_parse_date("", &moment));
    ck_assert(!s3_list_parse_date("Fri, 24 May 2013 00:00:00 GMT+1", &moment));
}
END_TEST

/* -- answers ------------------------------------------------------------------------------------ */

/* What an answer makes of an error. */
static void refuse(long status, const char *headers, const char *body)
{
    struct http_response response = {.status = status};
    struct s3_answer answer;

    buffer_append_string(&response.headers, headers);
    buffer_append_string(&response.body, body);
    ck_assert(s3_answer_read(&response, &answer, &err));
    ck_assert(!s3_answer_refused(&answer, "here", &err, "could not read object \"x\""));
    ck_assert_int_eq(err.code, ERROR_STORE);
    http_response_free(&response);
}

START_TEST(refusals)
{
    refuse(503, "HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\n",
           "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>less &amp; less</Message>"
           "</Error>");
    ck_assert_str_eq(err.message, "could not read object \"x\": server answered 503 SlowDown");
    ck_assert_str_eq(err.detail, "the server says: less & less");
    ck_assert(err.transient);
    ck_assert_int_eq(err.retry_after, 7000000);

    refuse(301, "HTTP/1.1 301 x\r\nx-amz-bucket-region: there\r\n\r\n", "");
    ck_assert_ptr_nonnull(strstr(err.hint, "set region = there"));
    ck_assert(!err.transient);

    refuse(400, "",
           "<Error><Code>AuthorizationHeaderMalformed</Code><Region>there</Region></Error>");
    ck_assert_ptr_nonnull(strstr(err.hint, "set region = there"));

    refuse(403, "HTTP/1.1 403 x\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\n",
           "<Error><Code>RequestTimeTooSkewed</Code></Error>");
    ck_assert_ptr_nonnull(strstr(err.hint, "the server's said Fri, 24 May 2013 00:00:00 GMT"));

    refuse(404, "", "<html><body>Not Found</body></html>");
    ck_assert_str_eq(err.message, "could not read object \"x\": server answered 404");
    ck_assert_ptr_nonnull(strstr(err.hint, "does not speak S3"));
    refuse(502, "", "<!DOCTYPE html><p>Bad <b>Gateway");
    ck_assert(err.transient);
    refuse(403, "", "<Error><Code>AccessDenied</Code></Error>");
    ck_assert_ptr_nonnull(strstr(err.hint, "s3:ListBucket"));
    ck_assert(!err.transient);
}
END_TEST

/* No entity of the answer's own is expanded, none fetched. */
START_TEST(hostile_xml)
{
    static const char bomb[] =
        "<!DOCTYPE Error [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">"
        "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY f SYSTEM \"file:///etc/passwd\">]>"
        "<Error><Code>&c;&f;</Code><Message>m</Message></Error>";

    refuse(500, "", bomb);
    ck_assert_str_eq(err.message, "could not read object \"x\": server answered 500");
    refuse(500, "", "<Error><Code>A</Code><Code>");
    refuse(500, "", "<Error/>");
    refuse(500, "", "<");
}
END_TEST

START_TEST(headers)
{
    struct http_response response = {.status = 200};
    char value[8];

    buffer_append_string(&response.headers,
                         "HTTP/1.1 200 OK\r\nA:\r\nLonger: 123456789\r\nB:  x\r\n\r\n");
    ck_assert_str_eq(http_header(&response, "b", value, sizeof(value)), "x");
    ck_assert_str_eq(http_header(&response, "A", value, sizeof(value)), "");
    ck_assert_str_eq(http_header(&response, "C", value, sizeof(value)), "");
    ck_assert_str_eq(http_header(&response, "longer", value, sizeof(value)), "1234567");
    http_response_free(&response);
}
END_TEST

/* -- credentials -------------------------------------------------------------------------------- */

static void forget_environment(void)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_PROFILE",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
}

static void check_keys(const struct config_repository *settings, const char *id, const char *secret,
                       const char *token)
{
    struct s3_credentials *credentials = s3_credentials_new(settings);
    struct s3_keys keys;

    ck_assert_msg(s3_credentials_get(credentials, &keys, &err), "%s", err.message);
    ck_assert_str_eq(keys.access_key_id, id);
    ck_assert_str_eq(keys.secret_access_key, secret);
    ck_assert_pstr_eq(keys.session_token, token);
    ck_assert_msg(!s3_credentials_renew(credentials, &keys), "the same ones are no others");
    s3_credentials_free_keys(&keys);
    s3_credentials_free(credentials);
}

static void check_no_keys(const struct config_repository *settings, const char *message)
{
    struct s3_credentials *credentials = s3_credentials_new(settings);
    struct s3_keys keys;

    ck_assert(!s3_credentials_get(credentials, &keys, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    s3_credentials_free(credentials);
}

START_TEST(credentials)
{
    struct config_repository settings = {.name = "west"};
    char *directory = scratch_make();
    char *secret = files_join(directory, "secret"), *shared = files_join(directory, "shared");
    static const char profiles[] = "# mine\n[other]\naws_access_key_id = O\n"
                                   "aws_secret_access_key=os\r\n[default]\n"
                                   "aws_access_key_id\t=\tD\naws_secret_access_key = a=b \n"
                                   "aws_session_token = t\nregion = x\n";

    forget_environment();
    check_no_keys(&settings, "there are no credentials for repository \"west\"");

    ck_assert(files_write(shared, profiles, strlen(profiles), 0600, &err));
    setenv("AWS_SHARED_CREDENTIALS_FILE", shared, 1);
    check_keys(&settings, "D", "a=b", "t");
    setenv("AWS_PROFILE", "other", 1);
    check_keys(&settings, "O", "os", NULL);

    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "es", 1);
    check_keys(&settings, "E", "es", NULL);
    settings.profile = mem_strdup("default");
    check_keys(&settings, "D", "a=b", "t");
    free(settings.profile);
    settings.profile = mem_strdup("none");
    check_no_keys(&settings, "there is no profile \"none\"");
    free(settings.profile);
    settings.profile = NULL;

    settings.access_key_id = mem_strdup("C");
    check_no_keys(&settings, "but not the other");
    settings.secret_access_key_file = secret;
    check_no_keys(&settings, "could not");
    ck_assert(files_write(secret, "cs\n", 3, 0600, &err));
    check_keys(&settings, "C", "cs", NULL);
    ck_assert_int_eq(chmod(secret, 0644), 0);
    check_no_keys(&settings, "can be read by everybody");

    free(settings.access_key_id);
    free(secret);
    free(shared);
    scratch_remove(directory);
}
END_TEST

/* A file that is written anew while a program runs. */
START_TEST(renewed_credentials)
{
    struct config_repository settings = {.name = "west"};
    char *directory = scratch_make();
    char *id = files_join(directory, "id"), *secret = files_join(directory, "secret");
    struct s3_credentials *held = s3_credentials_new(&settings);
    struct s3_keys first, second;

    forget_environment();
    settings.access_key_id_file = id;
    settings.secret_access_key_file = secret;
    ck_assert(files_write(id, "A\n", 2, 0600, &err));
    ck_assert(files_write(secret, "as\n", 3, 0600, &err));
    ck_assert_msg(s3_credentials_get(held, &first, &err), "%s", err.message);
    ck_assert(!s3_credentials_renew(held, &first));
    ck_assert(files_write(secret, "bs\n", 3, 0600, &err));
    ck_assert(s3_credentials_renew(held, &first));
    ck_assert_msg(s3_credentials_renew(held, &first), "another thread was refused, too");
    ck_assert(s3_credentials_get(held, &second, &err));
    ck_assert_str_eq(second.secret_access_key, "bs");
    ck_assert(!s3_credentials_renew(held, &second));
    /* Nothing is there for a moment: those at hand stay. */
    ck_assert_int_eq(unlink(secret), 0);
    ck_assert(!s3_credentials_renew(held, &second));
    s3_credentials_free_keys(&second);
    ck_assert(s3_credentials_get(held, &second, &err));
    ck_assert_str_eq(second.secret_access_key, "bs");

    s3_credentials_free_keys(&first);
    s3_credentials_free_keys(&second);
    s3_credentials_free(held);
    free(id);
    free(secret);
    scratch_remove(directory);
}
END_TEST

/* -- URLs and long objects ---------------------------------------------------------------------- */

static bool open_with(const char *url, const char *endpoint)
{
    const struct config_repository settings = {.name = "west",
                                               .url = (char *)(uintptr_t)url,
                                               .endpoint = (char *)(uintptr_t)endpoint,
                                               .timeout = 1000000};
    struct store *store = NULL;
    bool ok = store_open(&settings, &store, &err);

    store_close(store);
    return ok;
}

START_TEST(places)
{
    static const char *const good[] = {"s3://bucket", "s3://bucket/", "s3://b-1.c/a/b/"};
    static const char *const bad[] = {"s3://",          "s3://b",           "s3:///x",
                                      "s3://bucket//x", "s3://bucket/../x", "s3://b c/x"};
    static const char *const bad_endpoints[] = {"ftp://h", "https://", "https://h/path",
                                                "https://user@h"};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(open_with(good[i], NULL), "%s: %s", good[i], err.message);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!open_with(bad[i], NULL), "%s", bad[i]);
        ck_assert_int_eq(err.code, ERROR_CONFIG);
    }
    for (size_t i = 0; i < sizeof(bad_endpoints) / sizeof(bad_endpoints[0]); i++) {
        ck_assert_msg(!open_with("s3://bucket", bad_endpoints[i]), "%s", bad_endpoints[i]);
        ck_assert_int_eq(err.code, ERROR_CONFIG);
    }
}
END_TEST

/* -- lists -------------------------------------------------------------------------------------- */

/* A server that has one answer for all requests, in a process of its own. */
struct parrot {
    pid_t pid;
    char endpoint[64];
};

static void parrot_serve(int listener, const char *body)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char request[8192];

        if (fd < 0 || read(fd, request, sizeof(request)) <= 0)
            _exit(1);
        dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                strlen(body), body);
        close(fd);
    }
}

static void parrot_start(struct parrot *parrot, const char *body)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(parrot->endpoint, sizeof(parrot->endpoint), "http://127.0.0.1:%d",
             ntohs(address.sin_port));
    parrot->pid = fork();
    if (parrot->pid == 0)
        parrot_serve(listener, body);
    close(listener);
}

/* What a list with this answer comes to: names, or -1 and err. */
static int list_of(const char *inner)
{
    char *body = mem_printf("<ListBucketResult>%s</ListBucketResult>", inner);
    struct config_repository settings = {.name = "west",
                                         .url = (char *)(uintptr_t) "s3://bucket",
                                         .access_key_id = (char *)(uintptr_t) "id",
                                         .secret_access_key = (char *)(uintptr_t) "secret",
                                         .path_style = CONFIG_YES,
                                         .timeout = 1000000};
    struct parrot parrot;
    struct store *store;
    int count = 0;

    parrot_start(&parrot, body);
    settings.endpoint = parrot.endpoint;
    ck_assert_msg(store_open(&settings, &store, &err), "%s", err.message);
    if (!store_list(store, "", NULL, listing_count, &count, &err))
        count = -1;
    store_close(store);
    kill(parrot.pid, SIGKILL);
    waitpid(parrot.pid, NULL, 0);
    free(body);
    return count;
}

#define OBJECT                                                                                     \
    "<Contents><Key>a</Key><Size>3</Size><LastModified>2026-11-20T02:00:00.000Z</LastModified>"    \
    "</Contents>"

START_TEST(a_list_is_whole_or_an_error)
{
    ck_assert_int_eq(list_of("<IsTruncated>false</IsTruncated>" OBJECT), 1);
    ck_assert_int_eq(list_of("<IsTruncated>false</IsTruncated>"), 0);
    ck_assert_int_eq(list_of(OBJECT), -1);
    ck_assert(strstr(err.message, "does not say whether that is all") != NULL);
    ck_assert_int_eq(list_of("<IsTruncated>true</IsTruncated>"), -1);
    ck_assert(strstr(err.message, "says that there is more, and has nothing") != NULL);
    ck_assert_int_eq(list_of("<IsTruncated>true</IsTruncated>" OBJECT), -1);
    ck_assert(strstr(err.message, "is not in the order of the names") != NULL);
}
END_TEST

/* A driver that keeps what it is given, to see what became of a long object. */
static struct buffer whole;

static bool keep(struct store *store, const char *name, enum store_use use,
                 const struct store_body *body, enum store_outcome *outcome, struct error *error)
{
    (void)store;
    (void)name;
    ck_assert_int_eq(use, STORE_WAL);
    buffer_reserve(&whole, body->length);
    whole.length = body->length;
    *outcome = STORE_STORED;
    return body->read(body, 0, whole.data, body->length, error);
}

START_TEST(long_objects)
{
    static const struct store_driver driver = {.put_whole = keep};
    struct store store = {.driver = &driver, .url = (char *)(uintptr_t) "here"};
    unsigned char part[100003];
    struct store_put *put;
    enum store_outcome outcome;
    uint64_t length = 0;

    ck_assert(store_put_begin(&store, "a", STORE_WAL, &put, &err));
    while (length < GATHER_MEMORY + 3000000) {
        memset(part, (int)(length % 251), sizeof(part));
        ck_assert(store_put_write(put, part, sizeof(part), &err));
        length += sizeof(part);
    }
    ck_assert_msg(store_put_commit(put, &outcome, &err), "%s", err.message);
    ck_assert_uint_eq(whole.length, length);
    for (uint64_t at = 0; at < length; at += sizeof(part)) {
        memset(part, (int)(at % 251), sizeof(part));
        ck_assert_mem_eq(whole.data + at, part, sizeof(part));
    }
    buffer_free(&whole);
}
END_TEST

Suite *s3_suite(void)
{
    Suite *suite = suite_create("s3");
    TCase *tests = tcase_create("s3");

    tcase_add_test(tests, signatures);
    tcase_add_test(tests, encoding);
    tcase_add_test(tests, dates);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, hostile_xml);
    tcase_add_test(tests, headers);
    tcase_add_test(tests, credentials);
    tcase_add_test(tests, renewed_credentials);
    tcase_add_test(tests, places);
    tcase_add_test(tests, a_list_is_whole_or_an_error);
    tcase_add_test(tests, long_objects);
    suite_add_tcase(suite, tests);
    return suite;
}
