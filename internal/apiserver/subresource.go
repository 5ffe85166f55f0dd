package apiserver

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server"
)

// Subresource answers GET …/RESOURCE/NAME/SUBRESOURCE with a stream, as pods/log
// does, for a kind of a CustomResourceDefinition: those can declare status and
// scale alone. Who may read it is asked like for any other.
type Subresource struct {
	Resource    schema.GroupVersionResource
	Name        string // such as "log"
	ContentType string
	// Open returns the answer, for the server to close. The object need not
	// exist. An error is told to the user as it is: as "not found" when it is
	// fs.ErrNotExist, with its own status when it is a Kubernetes API error.
	Open func(ctx context.Context, namespace, name string, query url.Values) (io.ReadCloser, error)
}

// chainWith puts subresources behind authentication and authorization, before
// the handler that would not know them.
func chainWith(list []Subresource, codecs runtime.NegotiatedSerializer) func(http.Handler, *server.Config) http.Handler {
	return func(api http.Handler, c *server.Config) http.Handler {
		return server.DefaultBuildHandlerChain(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if info, ok := request.RequestInfoFrom(req.Context()); ok && info.IsResourceRequest {
				for _, s := range list {
					if s.asked(info) {
						s.serve(w, req, info, codecs)
						return
					}
				}
			}
			api.ServeHTTP(w, req)
		}), c)
	}
}

func (s Subresource) asked(info *request.RequestInfo) bool {
	asked := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	return asked == s.Resource && info.Subresource == s.Name && len(info.Parts) == 3
}

func (s Subresource) serve(w http.ResponseWriter, req *http.Request, info *request.RequestInfo, codecs runtime.NegotiatedSerializer) {
	refuse := func(err error) {
		responsewriters.ErrorNegotiated(err, codecs, s.Resource.GroupVersion(), w, req)
	}
	if req.Method != http.MethodGet {
		refuse(apierrors.NewMethodNotSupported(s.Resource.GroupResource(), info.Verb))
		return
	}
	r, err := s.Open(req.Context(), info.Namespace, info.Name, req.URL.Query())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refuse(&apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: err.Error(),
		}})
		return
	case err != nil:
		refuse(err)
		return
	}
	defer r.Close()
	w.Header().Set("Content-Type", s.ContentType)
	// The status is sent: a reader that goes away, or a file that cannot be
	// read to its end, ends the answer early.
	if _, err := io.Copy(w, r); err != nil {
		panic(http.ErrAbortHandler)
	}
}
