package apiserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	apiextensionsoptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	apiextensionsopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/version"
	authconfig "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	requestunion "k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authorizerunion "k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericregistry "k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
	serveroptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/dynamic"
	restclient "k8s.io/client-go/rest"
	"k8s.io/component-base/compatibility"
	"k8s.io/kube-openapi/pkg/common"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"serin.dev/serin/internal/apiserver/openapi"
)

// kubernetesVersion is the version whose API is served, that of the k8s.io
// modules in go.mod. Clients read it from /version; Flagger requires semver.
const (
	kubernetesMinor   = "1.37"
	kubernetesVersion = "v1.37.2+serin"
)

// openPaths answer without a token: they tell whether the server is well, and
// nothing about what it holds.
var openPaths = []string{"/healthz", "/livez", "/readyz", "/version"}

// api is the composed server: apiextensions' generic server with the built-in
// kinds installed beside CustomResourceDefinitions. One server instead of a
// chain means that OpenAPI and discovery cover both without merging.
type api struct {
	crds   *apiextensionsserver.CustomResourceDefinitions
	server *server.GenericAPIServer
	admin  *restclient.Config // for what runs inside this package
	stores map[string]store   // built-in kinds by resource name

	collector *collector
	failed    chan error // of the start
}

func newAPI(cfg Config, db *database, creds credentials, l net.Listener, address string) (*api, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(scheme)
	admission := &admissionChain{cfg: cfg}

	generic, err := genericConfig(creds, l, address, scheme)
	if err != nil {
		return nil, err
	}
	generic.AdmissionControl = admission
	generic.BuildHandlerChainFunc = chainWith(cfg.Subresources, codecs)
	crdOptions := definitionOptions()
	generic.RESTOptionsGetter = db.options(crdOptions)
	crds, err := (&apiextensionsserver.Config{
		GenericConfig: generic,
		ExtraConfig: apiextensionsserver.ExtraConfig{
			CRDRESTOptionsGetter: storageOptions{apiextensionsoptions.NewCRDRESTOptionsGetter(*crdOptions, nil, generic.StorageObjectCountTracker), db.client},
			MasterCount:          1,
			AuthResolverWrapper:  func(r webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver { return r },
		},
	}).Complete().New(server.NewEmptyDelegate())
	if err != nil {
		return nil, err
	}

	a := &api{crds: crds, server: crds.GenericAPIServer, admin: generic.LoopbackClientConfig, stores: map[string]store{}, failed: make(chan error, 1)}
	// The generic server waits for connections to end by themselves, up to this
	// long; Server.run closes them.
	a.server.ShutdownTimeout = drainTime
	if err := a.installBuiltins(scheme, codecs, db.options(etcdOptions(storageCodec(codecs))), cfg); err != nil {
		return nil, err
	}
	admission.namespaces = a.stores["namespaces"]
	a.serveDiscovery()
	if err := serveEmptyOpenAPIV2(a.server.Handler.NonGoRestfulMux); err != nil {
		return nil, err
	}
	if err := a.addHooks(); err != nil {
		return nil, err
	}
	return a, nil
}

// genericConfig is everything about the server that no kind has a say in.
func genericConfig(creds credentials, l net.Listener, address string, scheme *runtime.Scheme) (*server.RecommendedConfig, error) {
	generic := server.NewRecommendedConfig(apiextensionsserver.Codecs)
	generic.EffectiveVersion = servedVersion{compatibility.NewEffectiveVersionFromString(kubernetesMinor, "", "")}
	generic.ExternalAddress = l.Addr().String()
	generic.EnableProfiling = false
	generic.EnableMetrics = false
	generic.EnableIndex = false
	generic.MergedResourceConfig = apiextensionsserver.DefaultAPIResourceConfigSource()
	generic.LongRunningFunc = serverfilters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString("log"))

	var err error
	if generic.SecureServing, err = secureServing(creds, l); err != nil {
		return nil, err
	}
	// The server's own controllers have a token that lives as long as the
	// process.
	internal := creds
	internal.token = rand.Text()
	generic.LoopbackClientConfig = internal.clientConfig(address)

	conditions := make([]authconfig.AnonymousAuthCondition, len(openPaths))
	for i, p := range openPaths {
		conditions[i].Path = p
	}
	generic.Authentication.Authenticator = requestunion.New(
		authenticatorfactory.NewFromTokens(map[string]*user.DefaultInfo{
			creds.token: {Name: "serin-admin", UID: "serin-admin", Groups: []string{user.AllAuthenticated, user.SystemPrivilegedGroup}},
		}, nil),
		anonymous.NewAuthenticator(conditions),
	)
	open, err := path.NewAuthorizer(openPaths)
	if err != nil {
		return nil, err
	}
	if generic.Authorization.Authorizer, err = authorizerunion.New(
		authorizerunion.NamedAuthorizer{AuthorizerName: "administrators", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		authorizerunion.NamedAuthorizer{AuthorizerName: "open-paths", Authorizer: open},
	); err != nil {
		return nil, err
	}

	generic.OpenAPIV3Config = server.DefaultOpenAPIV3Config(definitions, openapinamer.NewDefinitionNamer(apiextensionsserver.Scheme, scheme))
	generic.OpenAPIV3Config.Info.Title = "Serin"
	return generic, nil
}

// definitions are the OpenAPI schemas of all kinds with Go types.
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := apiextensionsopenapi.GetOpenAPIDefinitions(ref)
	maps.Copy(all, openapi.GetOpenAPIDefinitions(ref))
	return all
}

// etcdOptions stores objects with the given codec.
func etcdOptions(codec runtime.Codec) *serveroptions.EtcdOptions {
	options := serveroptions.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", codec))
	options.StorageConfig.CountMetricPollPeriod = 0
	options.EnableWatchCache = false
	return options
}

// definitionOptions stores CustomResourceDefinitions.
func definitionOptions() *serveroptions.EtcdOptions {
	return etcdOptions(apiextensionsserver.Codecs.LegacyCodec(apiextensionsv1.SchemeGroupVersion))
}

// installBuiltins serves the kinds of the resources table, grouped by API group.
func (a *api) installBuiltins(scheme *runtime.Scheme, codecs serializer.CodecFactory, opts genericregistry.RESTOptionsGetter, cfg Config) error {
	storage := map[schema.GroupVersion]map[string]rest.Storage{}
	for _, r := range resources() {
		s, err := newStore(scheme, opts, r)
		if err != nil {
			return err
		}
		a.stores[r.name] = s
		if storage[r.version] == nil {
			storage[r.version] = map[string]rest.Storage{}
		}
		storage[r.version][r.name] = s
		if r.status {
			storage[r.version][r.name+"/status"] = newStatusStore(scheme, r, s)
		}
		switch r.name {
		case "pods":
			storage[metricsv1beta1.SchemeGroupVersion] = map[string]rest.Storage{"pods": newPodMetrics(s.Store, cfg.Usage)}
			storage[r.version]["pods/log"] = podLogs{pods: s.Store, logs: cfg.Logs}
		case "deployments":
			storage[r.version]["deployments/scale"] = scaleStore{s.Store}
		}
	}
	parameters := runtime.NewParameterCodec(scheme)
	for _, gv := range builtinVersions {
		info := server.NewDefaultAPIGroupInfo(gv.Group, scheme, parameters, codecs)
		info.VersionedResourcesStorageMap[gv.Version] = storage[gv]
		var err error
		switch gv.Group {
		case "":
			err = a.server.InstallLegacyAPIGroup(server.DefaultLegacyAPIPrefix, &info)
		case "authentication.k8s.io":
			info.VersionedResourcesStorageMap[gv.Version] = map[string]rest.Storage{"selfsubjectreviews": selfReview{}}
			fallthrough
		default:
			err = a.server.InstallAPIGroup(&info)
		}
		if err != nil {
			return fmt.Errorf("install API group %q: %w", gv.Group, err)
		}
	}
	return nil
}

// serveDiscovery answers /apis, which apiextensions leaves to an aggregator.
func (a *api) serveDiscovery() {
	handler := aggregated.WrapAggregatedDiscoveryToHandler(a.server.DiscoveryGroupManager,
		a.server.AggregatedDiscoveryGroupManager, a.server.AggregatedDiscoveryGroupManager)
	a.server.Handler.GoRestfulContainer.Add(handler.GenerateWebService(server.APIGroupPrefix, metav1.APIGroupList{}))
}

// addHooks starts what has to run once the server listens.
func (a *api) addHooks() error {
	definitions := a.crds.Informers.Apiextensions().V1().CustomResourceDefinitions()
	groups, err := newGroupDiscovery(definitions, a.server)
	if err != nil {
		return err
	}
	if a.collector, err = newCollector(a.admin, definitions); err != nil {
		return err
	}
	hooks := map[string]func(context.Context) error{
		"serin-namespaces":  func(ctx context.Context) error { return ensureNamespaces(ctx, a.admin) },
		"serin-definitions": func(ctx context.Context) error { return ensureDefinitions(ctx, a.admin, definitions) },
		"serin-discovery":   groups.synced,
	}
	for name, hook := range hooks {
		err := a.server.AddPostStartHook(name, func(ctx server.PostStartHookContext) error {
			if err := hook(ctx); err != nil {
				a.fail(err)
			}
			return nil // the generic server would end the process
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fail reports an error of the start; the first one counts.
func (a *api) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// run serves until ctx ends.
func (a *api) run(ctx context.Context) error {
	return a.server.PrepareRun().RunWithContext(ctx)
}

// ready waits until everything that has to happen at start has happened.
func (a *api) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("not ready after "+startTime.String()))
	defer cancel()
	client, err := restclient.UnversionedRESTClientFor(dynamic.ConfigFor(a.admin))
	if err != nil {
		return err
	}
	const every = 5 * time.Millisecond // of a start that takes some 400
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		served := client.Get().AbsPath("/readyz").Do(ctx).Error() == nil
		select {
		case err := <-a.failed:
			return err
		default:
		}
		if served {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// servedVersion reports a proper version; the k8s.io modules know theirs only
// when they are built by Kubernetes' own scripts.
type servedVersion struct{ compatibility.EffectiveVersion }

func (v servedVersion) Info() *version.Info {
	info := v.EffectiveVersion.Info()
	info.GitVersion = kubernetesVersion
	return info
}

func (c credentials) servingCertificate() (dynamiccertificates.CertKeyContentProvider, error) {
	return dynamiccertificates.NewStaticCertKeyContent("serin", c.cert, c.key)
}

// clientConfig reaches the API with the credentials' token. There is one
// machine and everything on it is ours: rate limits would only delay.
func (c credentials) clientConfig(address string) *restclient.Config {
	return &restclient.Config{
		Host:            address,
		BearerToken:     c.token,
		TLSClientConfig: restclient.TLSClientConfig{CAData: c.cert},
		QPS:             -1,
	}
}
