/* The throttle against servers that count in different ways, simulated, with invented times. */
#include "client/throttle.h"

#include "unit.h"

#define MS 1000ull
#define S 1000000ull
#define START (1000 * S)
#define TICK 100ull
#define FLIGHT_MOST 128u
#define CLIENTS 2u
#define WINDOW_MOST 2048u

enum counting {
	BUCKET,  /* a token bucket with a burst of a second */
	FIXED,   /* so many in each second of the clock */
	SLIDING, /* so many in the last second */
	KINDS,
};

static const char *const kind_names[] = { "token bucket", "fixed window", "sliding window" };

struct server {
	enum counting kind;
	unsigned limit; /* requests a second */
	double tokens;
	uint64_t filled;
	uint64_t window;
	unsigned in_window;
	uint64_t times[WINDOW_MOST]; /* of the last that were taken */
	uint64_t count;
};

static bool server_takes(struct server *server, uint64_t now)
{
	bool takes = false;

	switch (server->kind) {
	case BUCKET:
		server->tokens += (double)(now - server->filled) * server->limit / (double)S;
		server->filled = now;
		if (server->tokens > server->limit)
			server->tokens = server->limit;
		takes = server->tokens >= 1;
		server->tokens -= takes;
		return takes;
	case FIXED:
		if (now / S != server->window)
			server->in_window = 0;
		server->window = now / S;
		takes = server->in_window < server->limit;
		server->in_window += takes;
		return takes;
	case SLIDING:
		takes = server->count < server->limit ||
			server->times[(server->count - server->limit) % WINDOW_MOST] + S <= now;
		if (takes)
			server->times[server->count++ % WINDOW_MOST] = now;
		return takes;
	default:
		return false;
	}
}

/* A client that always has something to send. */
struct client {
	struct throttle throttle;
	unsigned flight_most;
	uint64_t round_trip;
	struct sent {
		uint64_t at;
		bool arrived, taken;
	} sent[FLIGHT_MOST];
	unsigned first, count;
	unsigned taken, refused;
};

static struct client made(unsigned flight_most, uint64_t round_trip, double rate, uint64_t seed)
{
	struct client client = { .flight_most = flight_most, .round_trip = round_trip };

	throttle_init(&client.throttle, &(struct hpkv_throttle){ true, rate }, seed, START);
	return client;
}

static void client_answer(struct client *client, const struct sent *sent, uint64_t now)
{
	if (sent->taken) {
		client->taken++;
		(void)throttle_succeeded(&client->throttle, sent->at, now);
		return;
	}
	client->refused++;
	throttle_refused(&client->throttle, sent->at, now);
}

static void client_tick(struct client *client, struct server *server, uint64_t now)
{
	for (unsigned i = 0; i < client->count; i++) {
		struct sent *sent = &client->sent[(client->first + i) % FLIGHT_MOST];

		if (!sent->arrived && now >= sent->at + client->round_trip / 2) {
			sent->arrived = true;
			sent->taken = server_takes(server, now);
		}
	}
	while (client->count && now >= client->sent[client->first].at + client->round_trip) {
		client_answer(client, &client->sent[client->first], now);
		client->first = (client->first + 1) % FLIGHT_MOST;
		client->count--;
	}
	while (client->count < client->flight_most && throttle_take(&client->throttle, now) == 0)
		client->sent[(client->first + client->count++) % FLIGHT_MOST] = (struct sent){ .at = now };
}

/* From `from` to `to`; what was counted before is forgotten. */
static void run(struct server *server, struct client *clients, unsigned count, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < count; i++)
		clients[i].taken = clients[i].refused = 0;
	for (uint64_t now = from; now < to; now += TICK)
		for (unsigned i = 0; i < count; i++)
			client_tick(&clients[(now / TICK + i) % count], server, now);
}

struct load {
	unsigned limit, flight_most;
	uint64_t round_trip;
};

static const struct load loads[] = {
	{ 10, 1, MS },       { 10, 1, 40 * MS },   { 10, 128, MS },        { 10, 128, 40 * MS }, { 50, 1, MS },
	{ 50, 128, MS },     { 50, 128, 40 * MS }, { 100, 1, MS },         { 100, 128, MS },     { 100, 128, 40 * MS },
	{ 1000, 1, MS / 2 }, { 1000, 128, MS },    { 1000, 128, 40 * MS },
};
#define LOADS (sizeof(loads) / sizeof(*loads))

static struct server server_of(enum counting kind, unsigned limit)
{
	return (struct server){ .kind = kind, .limit = limit, .tokens = limit, .filled = START };
}

typedef void scenario(enum counting kind, const struct load *load);

static void each(scenario *fn)
{
	for (int kind = 0; kind < KINDS; kind++)
		for (size_t i = 0; i < LOADS; i++)
			fn((enum counting)kind, &loads[i]);
}

#define expect(condition, kind, load, clients)                                                                        \
	do {                                                                                                          \
		if (!(condition))                                                                                     \
			fail_msg("%s; %s of %u, %u in flight, %u us: taken %u and %u, refused %u and %u", #condition, \
				 kind_names[kind], (load)->limit, (load)->flight_most, (unsigned)(load)->round_trip,  \
				 (clients)[0].taken, (clients)[1].taken, (clients)[0].refused, (clients)[1].refused); \
	} while (0)

static void alone(enum counting kind, const struct load *load)
{
	struct server server = server_of(kind, load->limit);
	struct client clients[CLIENTS] = { made(load->flight_most, load->round_trip, 0, 1) };

	run(&server, clients, 1, START + 370 * MS, START + 10 * S);
	expect(clients[0].taken >= 8 * load->limit, kind, load, clients);
	run(&server, clients, 1, START + 10 * S, START + 70 * S);
	expect(clients[0].taken >= 54 * load->limit, kind, load, clients);
	/* those that are under way when the first is refused are refused too: a twentieth of what is in flight */
	expect(clients[0].refused <= 15 + 2 * load->limit * load->round_trip / S, kind, load, clients);
}

static void alone_it_uses_what_the_server_allows(void **state)
{
	(void)state;
	each(alone);
}

static void together(enum counting kind, const struct load *load)
{
	struct server server = server_of(kind, load->limit);
	struct client clients[CLIENTS];
	unsigned least;

	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] = made(load->flight_most, load->round_trip, 0, i + 1);
	run(&server, clients, CLIENTS, START + 370 * MS, START + 10 * S);
	run(&server, clients, CLIENTS, START + 10 * S, START + 70 * S);
	least = clients[0].taken < clients[1].taken ? clients[0].taken : clients[1].taken;
	expect(clients[0].taken + clients[1].taken >= 51 * load->limit, kind, load, clients);
	expect(least >= 15 * load->limit, kind, load, clients);
	for (unsigned i = 0; i < CLIENTS; i++)
		expect(clients[i].refused <= 20 + 2 * load->limit * load->round_trip / S, kind, load, clients);
}

static void two_share_a_limit(void **state)
{
	(void)state;
	each(together);
}

static void raised(enum counting kind, const struct load *load)
{
	struct server server = server_of(kind, load->limit);
	struct client clients[CLIENTS] = { made(load->flight_most, load->round_trip, 0, 1) };

	if (load->flight_most == 1 || load->limit > 100)
		return; /* it could not use ten times as much */
	run(&server, clients, 1, START + 370 * MS, START + 30 * S);
	server.limit *= 10;
	run(&server, clients, 1, START + 30 * S, START + 60 * S);
	run(&server, clients, 1, START + 60 * S, START + 80 * S);
	expect(clients[0].taken >= 17 * server.limit, kind, load, clients);
	server.limit /= 10;
	run(&server, clients, 1, START + 80 * S, START + 95 * S);
	run(&server, clients, 1, START + 95 * S, START + 115 * S);
	expect(clients[0].taken >= 17 * server.limit, kind, load, clients);
}

static void a_limit_that_changes_is_followed(void **state)
{
	(void)state;
	each(raised);
}

static void below(enum counting kind, const struct load *load)
{
	struct server server = server_of(kind, load->limit);
	struct client clients[CLIENTS] = { made(load->flight_most, load->round_trip, 0.8 * load->limit, 1) };

	run(&server, clients, 1, START + 370 * MS, START + 60 * S);
	expect(clients[0].refused == 0, kind, load, clients);
	expect(clients[0].taken <= (unsigned)(0.8 * load->limit * 59.8) + 1, kind, load, clients);
	expect(clients[0].taken >= 47 * load->limit, kind, load, clients);
}

static void below_the_limit_nothing_is_refused(void **state)
{
	(void)state;
	each(below);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone_it_uses_what_the_server_allows),
		cmocka_unit_test(two_share_a_limit),
		cmocka_unit_test(a_limit_that_changes_is_followed),
		cmocka_unit_test(below_the_limit_nothing_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
