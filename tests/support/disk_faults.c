/* Makes the disk of one process misbehave: loaded into it (LD_PRELOAD), it does what the file named by DISK_FAULTS says.
 *
 *   (empty)     nothing
 *   hang        a sync does not return while the file says so
 *   fail-sync   a sync fails
 *   fail-write  a write of the log fails after a part of it, that is no whole sector
 *   fail-once   the same, but only the first one in the life of the process
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int told(const char *word) {
    const char *path = getenv("DISK_FAULTS");
    char text[32] = {0};
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    return length > 0 && strcmp(text, word) == 0;
}

static int sync_with(int fd, const char *name) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    while (told("hang")) usleep(5000);
    if (told("fail-sync")) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fdatasync(int fd) { return sync_with(fd, "fdatasync"); }
int fsync(int fd) { return sync_with(fd, "fsync"); }

static int is_log(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 4) return 0;
    path[length] = 0;
    return strcmp(path + length - 4, ".seg") == 0 && strstr(path, "/log/") != NULL;
}

static ssize_t write_with(const char *name, int fd, const void *bytes, size_t length, off_t offset) {
    static int once;
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    if (is_log(fd) && (told("fail-write") || (told("fail-once") && !__sync_lock_test_and_set(&once, 1)))) {
        real(fd, bytes, length / 2 + 100 < length ? length / 2 + 100 : length / 2, offset);
        errno = EIO;
        return -1;
    }
    return real(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return write_with("pwrite", fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    return write_with("pwrite64", fd, bytes, length, offset);
}
