/* A program that makes Lustre's ioctls itself, as the daemon does, and prints messages through the library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CT_START 0x401866d5UL
#define GETMDNAME 0x80806683UL
#define PATH2FID 0x800866adUL
#define STATE_GET 0x802066d3UL

int main(int argc, char **argv)
{
	char name[128] = "";
	uint32_t link[7] = { 0, 0, 0, 2, 1, 2, 1 };
	uint64_t words[4] = { 0 };
	int root, file, outside, pipes[2], waiting = -1, status = -1;
	void (*error)(int, int, const char *, ...);

	if (argc != 4)
		return 2;
	root = open(argv[1], O_RDONLY | O_DIRECTORY);
	file = open(argv[2], O_RDONLY);
	outside = open(argv[3], O_RDONLY);
	status = ioctl(root, GETMDNAME, name);
	printf("name %d %s\n", status, name);
	status = ioctl(file, PATH2FID, words);
	printf("fid %d %#llx\n", status, (unsigned long long)words[0]);
	status = ioctl(outside, PATH2FID, words);
	printf("outside %d %d\n", status, errno);
	status = ioctl(-1, PATH2FID, words);
	printf("closed %d %d\n", status, errno);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return 3;
	link[0] = pipes[1];
	link[1] = pipes[0];
	link[2] = getpid();
	printf("register %d\n", ioctl(root, CT_START, link));
	status = ioctl(root, CT_START, link);
	printf("again %d %d\n", status, errno);
	close(pipes[1]);
	status = ioctl(pipes[0], FIONREAD, &waiting);
	printf("empty %d %d\n", status, waiting);
	fflush(stdout);
	if (fork() == 0) {
		status = ioctl(file, STATE_GET, words);
		printf("child %d %u\n", status, (uint32_t)words[0]);
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	error = dlsym(RTLD_DEFAULT, "llapi_error");
	error(2, ENOENT, "%s %d %.2f %.1f %s %s %s %d %.3f", "text", 7, 1.25, 2.5, "a", "b", "c", 8, 9.125);
	error(2 | 0x10, 0, "%s\n", "no errno");
	error(6, 0, "not shown");
	link[5] |= 1;
	close(pipes[0]);
	printf("unregister %d\n", ioctl(root, CT_START, link));
	return 0;
}
