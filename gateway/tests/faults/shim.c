/*
 * Makes writes, syncs and free space of chosen files fail or hang, and sending and random numbers, in any process that runs
 * with this library in front of libc.
 *
 *   cc -shared -fPIC -O1 -o shim.so shim.c
 *   LD_PRELOAD=/…/shim.so FAULT_DIRECTORY=/…/data FAULT_CONTROL=/…/control gateway serve …
 *
 * Only files below FAULT_DIRECTORY (absolute, without symbolic links) are concerned. FAULT_CONTROL names a file outside of
 * it, which is read again before each such call; whoever tests writes it, at best beside it and then renamed over it. Each
 * of its lines is one fault; without the file, or with an empty one, everything passes:
 *
 *   fsync EIO      fsync and fdatasync fail; nothing is brought to the disk
 *   fsync hang     they do not return as long as the file says so
 *   send hang      send and sendto, but for local sockets, do not return as long as the file says so
 *   random EIO     getrandom of 32 bytes, the seed of a generator, fails; other lengths are keys of hash tables
 *   write ENOSPC   write, writev, pwrite and pwrite64 fail; nothing is written
 *   free 1000000   statvfs reports that many free bytes
 *
 * Errors: EIO, ENOSPC, EDQUOT, EROFS, or a number. No call allocates or takes a lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONTROL_BYTES = 512 };

/* The real function behind this library; looking it up twice at once finds the same one twice. */
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int is_below(const char *path)
{
    const char *directory = getenv("FAULT_DIRECTORY");
    if (!directory || !*directory) return 0;
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int is_file_below(int file)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = '\0';
    return is_below(path);
}

/* What the control file says behind this word, copied to `said`; 0 when it says nothing. */
static int told(const char *word, char said[CONTROL_BYTES])
{
    const char *control = getenv("FAULT_CONTROL");
    if (!control) return 0;
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    char text[CONTROL_BYTES];
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = '\0';
    size_t word_length = strlen(word);
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, word, word_length) == 0 && line[word_length] == ' ') {
            strcpy(said, line + word_length + 1);
            return 1;
        }
    }
    return 0;
}

static int error_named(const char *name)
{
    if (strncmp(name, "EIO", 3) == 0) return EIO;
    if (strncmp(name, "ENOSPC", 6) == 0) return ENOSPC;
    if (strncmp(name, "EDQUOT", 6) == 0) return EDQUOT;
    if (strncmp(name, "EROFS", 5) == 0) return EROFS;
    int number = atoi(name);
    return number > 0 ? number : EIO;
}

/* Returns when the control file does not tell this operation to hang, or not any more. */
static void hang(const char *operation)
{
    int before = errno;
    char said[CONTROL_BYTES];
    while (told(operation, said) && strncmp(said, "hang", 4) == 0) usleep(2000);
    errno = before;
}

/* The error that this operation on this file is to have; 0 for none. What is asked here must not change errno. */
static int fault(const char *operation, int file)
{
    int before = errno;
    char said[CONTROL_BYTES];
    int error = is_file_below(file) && told(operation, said) ? error_named(said) : 0;
    errno = before;
    return error;
}

#define FAIL_IF_TOLD(operation, file) \
    int error = fault(operation, file); \
    if (error) { errno = error; return -1; }

ssize_t write(int file, const void *bytes, size_t count)
{
    REAL(write);
    FAIL_IF_TOLD("write", file);
    return real(file, bytes, count);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    REAL(writev);
    FAIL_IF_TOLD("write", file);
    return real(file, parts, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
    REAL(pwrite);
    FAIL_IF_TOLD("write", file);
    return real(file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset)
{
    REAL(pwrite64);
    FAIL_IF_TOLD("write", file);
    return real(file, bytes, count, offset);
}

int fsync(int file)
{
    REAL(fsync);
    if (is_file_below(file)) hang("fsync");
    FAIL_IF_TOLD("fsync", file);
    return real(file);
}

int fdatasync(int file)
{
    REAL(fdatasync);
    if (is_file_below(file)) hang("fsync");
    FAIL_IF_TOLD("fsync", file);
    return real(file);
}

/* Signal handlers wake threads through local sockets: those always work. */
static int is_local(int socket)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    return getsockname(socket, (struct sockaddr *)&name, &length) != 0 || name.ss_family == AF_UNIX;
}

ssize_t send(int socket, const void *bytes, size_t count, int flags)
{
    REAL(send);
    if (!is_local(socket)) hang("send");
    return real(socket, bytes, count, flags);
}

ssize_t sendto(
    int socket, const void *bytes, size_t count, int flags, const struct sockaddr *address, socklen_t length)
{
    REAL(sendto);
    if (!is_local(socket)) hang("send");
    return real(socket, bytes, count, flags, address, length);
}

ssize_t getrandom(void *bytes, size_t count, unsigned flags)
{
    static ssize_t (*real)(void *, size_t, unsigned);
    if (!real) real = (ssize_t(*)(void *, size_t, unsigned))dlsym(RTLD_NEXT, "getrandom");
    char said[CONTROL_BYTES];
    if (count == 32 && told("random", said)) { errno = error_named(said); return -1; }
    return real(bytes, count, flags);
}

/* Whole blocks, rounded down: what is reported is never more than what was asked for. */
#define REPORT_FREE(path, result) \
    char said[CONTROL_BYTES]; \
    if (is_below(path) && told("free", said)) { \
        unsigned long unit = (result)->f_frsize ? (result)->f_frsize : 1; \
        (result)->f_bfree = (result)->f_bavail = strtoull(said, NULL, 10) / unit; \
    }

int statvfs(const char *path, struct statvfs *result)
{
    REAL(statvfs);
    int code = real(path, result);
    if (code == 0) { REPORT_FREE(path, result) }
    return code;
}

int statvfs64(const char *path, struct statvfs64 *result)
{
    REAL(statvfs64);
    int code = real(path, result);
    if (code == 0) { REPORT_FREE(path, result) }
    return code;
}
