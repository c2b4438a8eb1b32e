/* A wall clock that is off by as many seconds as a file says: LD_PRELOAD for tests. The other clocks are as they are. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("COORDINATOOL_TEST_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		offset = map;
	close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, now);

	if (rc == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += *offset;
	return rc;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec wall;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &wall) < 0)
		return -1;
	now->tv_sec = wall.tv_sec;
	now->tv_usec = wall.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *seconds)
{
	struct timespec wall = { 0 };

	clock_gettime(CLOCK_REALTIME, &wall);
	if (seconds)
		*seconds = wall.tv_sec;
	return wall.tv_sec;
}
