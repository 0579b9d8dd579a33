// A real OpenID provider for tests, on a free port that it prints. People log in with any name and password; who they are is told
// by PUT /people/NAME with claims as JSON. Clients register themselves.
import http from 'node:http';

const { default: Provider } = await import(process.env.OIDC_PROVIDER);

const people = new Map();
let answer = (_, response) => response.end();

const server = http.createServer(async (request, response) => {
  const person = request.url.match(/^\/people\/(.+)$/);
  if (request.method !== 'PUT' || !person) return answer(request, response);
  let text = '';
  for await (const chunk of request) text += chunk;
  people.set(decodeURIComponent(person[1]), JSON.parse(text));
  return response.end();
});

server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    claims: { email: ['email', 'email_verified'], openid: ['sub'], profile: ['name', 'picture'] },
    cookies: { keys: ['of a test'] },
    features: { registration: { enabled: true } },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: id, email_verified: true, ...people.get(id) }),
    }),
    pkce: { required: () => true },
  });
  answer = provider.callback();
  console.log(issuer);
});

// ends with the test that started it, also when that is killed
process.stdin.on('end', () => process.exit()).resume();
