/* Logs every operation that changes files beneath a folder, to be read by power_loss.py.
 *
 *     cc -shared -fPIC -o power_loss.so power_loss.c
 *     POWER_LOSS_FOLDER=/folder POWER_LOSS_TRACE=/trace LD_PRELOAD=./power_loss.so COMMAND
 *
 * It takes the place of libc's functions in a process and in those it starts. Each function asks
 * the kernel directly, and where that succeeded appends one record to the trace, in one system
 * call: a killed process leaves all its records, except of operations just then under way. One
 * mutex is held from the operation to its record, so that the records of a process are in the
 * order of its operations; those of different processes may be a little out of order.
 *
 * No table of descriptors is kept, so neither `dup` and `close` nor inheritance is of concern:
 * /proc/self/fd tells the path of a descriptor, and files are known by their inode.
 *
 * Streams (`fopen`, `fdopen`) write from inside libc, where no function can be replaced. A stream
 * that writes beneath the folder is therefore made by `fopencookie`, which calls back for every
 * write: NumPy's `tofile` and FAISS's `write_index` are seen like that. `std::ofstream` uses
 * `fopen`, and then `write` on the descriptor that `fileno` tells.
 *
 * A record is a `struct header`, then the path, the target of a rename or link, and the data. Both
 * paths are relative to the folder. Kinds: C create, D mkdir, W write, T change of size,
 * F fsync or fdatasync, R rename, U unlink or rmdir, L link, M a writable shared mapping, and
 * X something that the reader must refuse.
 *
 * Not seen: what is written through a mapping; symbolic links, `mkstemp`, `tmpfile`, `freopen`,
 * O_TMPFILE, `ioctl` (cloning), `splice`, io_uring; and system calls without libc, which some Rust
 * makes (the rename of safetensors). Not counted as a sync: `sync_file_range`, `msync`, and, more
 * strictly than Linux, `sync`, `syncfs` and O_SYNC. For Linux with 64 bits and glibc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct header {
    uint32_t magic, kind;
    uint64_t inode;
    int64_t offset, size; /* `size` is the file's, after the operation */
    uint32_t path_bytes, target_bytes;
    uint64_t data_bytes;
};

static char folder[PATH_MAX];
static size_t folder_bytes; /* 0: nothing is traced */
static int trace_fd = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POWER_LOSS_FOLDER"), *trace = getenv("POWER_LOSS_TRACE");
    if (!path || !trace || strlen(path) >= PATH_MAX)
        return;
    int fd = syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    trace_fd = fcntl(fd, F_DUPFD_CLOEXEC, 500); /* where programs seldom close descriptors */
    close(fd);
    if (trace_fd < 0)
        abort();
    pthread_atfork(lock, unlock, unlock);
    folder_bytes = strlen(strcpy(folder, path));
}

static void record(char kind, const struct stat *status, const char *path, const char *target,
                   off_t offset, const void *data, size_t data_bytes) {
    struct header header = {0x504f5752, kind, status->st_ino, offset, status->st_size,
                            strlen(path), strlen(target), data_bytes};
    struct iovec parts[] = {{&header, sizeof header},
                            {(void *)path, header.path_bytes},
                            {(void *)target, header.target_bytes},
                            {(void *)data, data_bytes}};
    ssize_t total = sizeof header + header.path_bytes + header.target_bytes + data_bytes;
    if (syscall(SYS_writev, trace_fd, parts, 4) != total) {
        fputs("power_loss.c: the trace cannot be written\n", stderr);
        abort();
    }
}

/* The path of a descriptor, relative to the folder ("" for itself), or NULL if it is elsewhere. */
static const char *path_of(int fd, char buffer[PATH_MAX]) {
    char link[40];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t bytes = folder_bytes && fd >= 0 ? readlink(link, buffer, PATH_MAX - 1) : -1;
    errno = saved;
    if (bytes < (ssize_t)folder_bytes || bytes < 0 || strncmp(buffer, folder, folder_bytes))
        return NULL;
    buffer[bytes] = '\0';
    const char *rest = buffer + folder_bytes;
    return *rest == '/' ? rest + 1 : *rest ? NULL : rest;
}

static int is_traced(int fd) {
    char buffer[PATH_MAX];
    return path_of(fd, buffer) != NULL;
}

/* The path of a name, which need not exist. */
static const char *locate(int at, const char *name, char buffer[PATH_MAX]) {
    char parent[PATH_MAX] = ".";
    int end = strnlen(name, PATH_MAX - 1), saved = errno;
    while (end > 1 && name[end - 1] == '/')
        end--;
    int start = end;
    while (start && name[start - 1] != '/')
        start--;
    if (start)
        snprintf(parent, sizeof parent, "%.*s", start, name);
    int fd = folder_bytes ? syscall(SYS_openat, at, parent, O_PATH | O_CLOEXEC, 0) : -1;
    const char *path = path_of(fd, buffer);
    if (fd >= 0)
        close(fd);
    errno = saved;
    int used = path ? strlen(buffer) : 0;
    if (!path || used + 1 + end - start >= PATH_MAX)
        return NULL;
    snprintf(buffer + used, PATH_MAX - used, "/%.*s", end - start, name + start);
    return buffer + folder_bytes + 1;
}

static void record_fd(char kind, int fd, off_t offset, const void *data, size_t data_bytes) {
    char buffer[PATH_MAX];
    struct stat status;
    const char *path = path_of(fd, buffer);
    if (path && !fstat(fd, &status))
        record(kind, &status, path, "", offset, data, data_bytes);
}

/* ---- writes ---- */

static off_t position(int fd) { return syscall(SYS_lseek, fd, 0, SEEK_CUR); }

/* The function that all writes to traced files come to; `offset` -1 is the file's position. */
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    if (!is_traced(fd))
        return syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
    lock();
    ssize_t written = syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags), left = written;
    if (offset < 0)
        offset = position(fd) - written;
    for (; left > 0; parts++) {
        size_t bytes = (ssize_t)parts->iov_len < left ? parts->iov_len : (size_t)left;
        record_fd('W', fd, offset, parts->iov_base, bytes);
        offset += bytes, left -= bytes;
    }
    unlock();
    return written;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    struct iovec part = {(void *)data, bytes};
    return is_traced(fd) ? pwritev2(fd, &part, 1, -1, 0) : syscall(SYS_write, fd, data, bytes);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    struct iovec part = {(void *)data, bytes};
    return is_traced(fd) ? pwritev2(fd, &part, 1, offset, 0)
                         : syscall(SYS_pwrite64, fd, data, bytes, offset);
}

ssize_t writev(int fd, const struct iovec *p, int n) { return pwritev2(fd, p, n, -1, 0); }
ssize_t pwritev(int fd, const struct iovec *p, int n, off_t a) { return pwritev2(fd, p, n, a, 0); }

/* What the kernel copied into a file, until `end`, is read back from it. */
static ssize_t recorded_copy(int fd, off_t end, ssize_t copied) {
    char link[40], *data = copied > 0 ? malloc(copied) : NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int reader = data ? syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (data && syscall(SYS_pread64, reader, data, copied, end - copied) == copied)
        record_fd('W', fd, end - copied, data, copied);
    if (data)
        close(reader);
    free(data);
    unlock();
    return copied;
}

ssize_t sendfile(int out, int in, off_t *offset, size_t bytes) {
    if (!is_traced(out))
        return syscall(SYS_sendfile, out, in, offset, bytes);
    lock();
    ssize_t copied = syscall(SYS_sendfile, out, in, offset, bytes);
    return recorded_copy(out, position(out), copied);
}

ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t bytes, unsigned int flags) {
    if (!is_traced(out))
        return syscall(SYS_copy_file_range, in, from, out, to, bytes, flags);
    lock();
    ssize_t copied = syscall(SYS_copy_file_range, in, from, out, to, bytes, flags);
    return recorded_copy(out, to ? *to : position(out), copied);
}

/* ---- sizes, syncs, mappings ---- */

/* What `call` returns, and a record if that is 0. */
#define RECORDED(kind, fd, call) {                                                                 \
    lock();                                                                                        \
    int result = call;                                                                             \
    if (!result)                                                                                   \
        record_fd(kind, fd, 0, NULL, 0);                                                           \
    unlock();                                                                                      \
    return result;                                                                                 \
}

int fsync(int fd) RECORDED('F', fd, syscall(SYS_fsync, fd))
int fdatasync(int fd) RECORDED('F', fd, syscall(SYS_fdatasync, fd))
int ftruncate(int fd, off_t size) RECORDED('T', fd, syscall(SYS_ftruncate, fd, size))
int fallocate(int fd, int mode, off_t offset, off_t bytes)
    RECORDED(mode & ~FALLOC_FL_KEEP_SIZE ? 'X' : 'T', fd,
             syscall(SYS_fallocate, fd, mode, offset, bytes))

int posix_fallocate(int fd, off_t offset, off_t bytes) {
    return fallocate(fd, 0, offset, bytes) ? errno : 0;
}

int truncate(const char *name, off_t size) {
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CLOEXEC, 0);
    int result = fd < 0 ? -1 : ftruncate(fd, size);
    if (fd >= 0)
        close(fd);
    return result;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    void *result = (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
    if (result != MAP_FAILED && protection & PROT_WRITE && flags & MAP_SHARED && is_traced(fd))
        record_fd('M', fd, offset, NULL, 0);
    return result;
}

/* ---- names ---- */

static int open_at(int at, const char *name, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    struct stat status;
    if (!(flags & (O_CREAT | O_TRUNC)) || !locate(at, name, buffer))
        return syscall(SYS_openat, at, name, flags, mode);
    lock();
    int existed = !fstatat(at, name, &status, 0);
    int fd = syscall(SYS_openat, at, name, flags, mode);
    if (fd >= 0 && !existed)
        record_fd('C', fd, 0, NULL, 0);
    else if (fd >= 0 && flags & O_TRUNC && flags & O_ACCMODE)
        record_fd('T', fd, 0, NULL, 0);
    unlock();
    return fd;
}

#define WITH_MODE(at) {                                                                            \
    va_list rest;                                                                                  \
    va_start(rest, flags);                                                                         \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) & ~O_DIRECTORY ? va_arg(rest, mode_t) : 0;         \
    va_end(rest);                                                                                  \
    return open_at(at, name, flags, mode);                                                         \
}

int open(const char *name, int flags, ...) WITH_MODE(AT_FDCWD)
int openat(int at, const char *name, int flags, ...) WITH_MODE(at)
int __open_2(const char *name, int flags) { return open_at(AT_FDCWD, name, flags, 0); }
int __openat_2(int at, const char *name, int flags) { return open_at(at, name, flags, 0); }

int creat(const char *name, mode_t mode) {
    return open_at(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static int one_name(long call, char kind, int at, const char *name, unsigned int argument) {
    char buffer[PATH_MAX];
    struct stat status = {0};
    const char *path = locate(at, name, buffer);
    lock();
    int result = syscall(call, at, name, argument);
    if (!result && path) {
        if (kind == 'D')
            fstatat(at, name, &status, 0);
        record(kind, &status, path, "", 0, NULL, 0);
    }
    unlock();
    return result;
}

/* A name moved out of the folder is like one deleted; one moved into it is refused. */
static int two_names(long call, char kind, int at, const char *from, int to_at, const char *to,
                     unsigned int flags) {
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    struct stat status = {0};
    const char *path = locate(at, from, from_buffer), *target = locate(to_at, to, to_buffer);
    lock();
    int result = syscall(call, at, from, to_at, to, flags);
    if (!result && target)
        record(path && !(flags & RENAME_EXCHANGE) ? kind : 'X', &status, path ? path : from,
               target, 0, NULL, 0);
    else if (!result && path && kind == 'R')
        record('U', &status, path, "", 0, NULL, 0);
    unlock();
    return result;
}

#define RENAME(at, from, to_at, to, flags)                                                         \
    { return two_names(SYS_renameat2, 'R', at, from, to_at, to, flags); }
#define LINK(at, from, to_at, to, flags)                                                           \
    { return two_names(SYS_linkat, 'L', at, from, to_at, to, flags); }

int renameat2(int a, const char *f, int b, const char *t, unsigned int o) RENAME(a, f, b, t, o)
int renameat(int a, const char *f, int b, const char *t) RENAME(a, f, b, t, 0)
int rename(const char *f, const char *t) RENAME(AT_FDCWD, f, AT_FDCWD, t, 0)
int linkat(int a, const char *f, int b, const char *t, int flags) LINK(a, f, b, t, flags)
int link(const char *f, const char *t) LINK(AT_FDCWD, f, AT_FDCWD, t, 0)
int mkdirat(int a, const char *n, mode_t mode) { return one_name(SYS_mkdirat, 'D', a, n, mode); }
int mkdir(const char *n, mode_t mode) { return one_name(SYS_mkdirat, 'D', AT_FDCWD, n, mode); }
int unlinkat(int a, const char *n, int flags) { return one_name(SYS_unlinkat, 'U', a, n, flags); }
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int remove(const char *name) {
    int result = unlink(name);
    return result && errno == EISDIR ? rmdir(name) : result;
}

/* ---- streams ---- */

#define ORIGINAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static struct stream { FILE *file; int fd; } streams[256];
static struct stream *const streams_end = streams + 256;

static ssize_t read_stream(void *stream, char *data, size_t bytes) {
    return read(((struct stream *)stream)->fd, data, bytes);
}

static ssize_t write_stream(void *stream, const char *data, size_t bytes) {
    ssize_t total = 0, written = 1;
    for (; written > 0 && total < (ssize_t)bytes; total += written)
        written = write(((struct stream *)stream)->fd, data + total, bytes - total);
    return written < 0 ? 0 : total; /* libc takes less than `bytes` as an error */
}

static int seek_stream(void *stream, off64_t *offset, int whence) {
    off_t result = lseek(((struct stream *)stream)->fd, *offset, whence);
    *offset = result < 0 ? *offset : result;
    return result < 0 ? -1 : 0;
}

static int close_stream(void *stream) {
    int fd = ((struct stream *)stream)->fd;
    ((struct stream *)stream)->file = NULL;
    return close(fd);
}

FILE *fdopen(int fd, const char *mode) {
    cookie_io_functions_t functions = {read_stream, write_stream, seek_stream, close_stream};
    if (!strpbrk(mode, "wa+") || !is_traced(fd))
        return ORIGINAL(fdopen)(fd, mode);
    if (*mode == 'a')
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_APPEND);
    lock();
    struct stream *stream = streams;
    while (stream->file)
        if (++stream == streams_end)
            abort();
    stream->fd = fd;
    stream->file = fopencookie(stream, mode, functions);
    unlock();
    return stream->file;
}

FILE *fopen(const char *name, const char *mode) {
    int flags = *mode == 'w' ? O_CREAT | O_TRUNC : *mode == 'a' ? O_CREAT | O_APPEND : 0;
    if (!strpbrk(mode, "wa+"))
        return ORIGINAL(fopen)(name, mode);
    flags |= strchr(mode, '+') ? O_RDWR : O_WRONLY;
    flags |= (strchr(mode, 'x') ? O_EXCL : 0) | (strchr(mode, 'e') ? O_CLOEXEC : 0);
    int fd = open_at(AT_FDCWD, name, flags, 0666);
    return fd < 0 ? NULL : fdopen(fd, mode);
}

int fileno(FILE *file) {
    for (struct stream *stream = streams; stream < streams_end; stream++)
        if (stream->file == file)
            return stream->fd;
    return ORIGINAL(fileno)(file);
}

/* ---- the same functions under their other names; `off_t` has 64 bits with each ---- */

#define SAME(other, name) extern __typeof__(name) other __attribute__((alias(#name)));
SAME(open64, open) SAME(openat64, openat) SAME(__open64_2, __open_2) SAME(creat64, creat)
SAME(__openat64_2, __openat_2) SAME(pwrite64, pwrite) SAME(pwritev64, pwritev)
SAME(pwritev64v2, pwritev2) SAME(sendfile64, sendfile) SAME(ftruncate64, ftruncate)
SAME(truncate64, truncate) SAME(fallocate64, fallocate) SAME(posix_fallocate64, posix_fallocate)
SAME(mmap64, mmap) SAME(fopen64, fopen) SAME(fileno_unlocked, fileno)
